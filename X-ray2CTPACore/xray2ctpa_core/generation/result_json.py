"""result.json: the record of how a result was made."""

import json
import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core import __version__
from xray2ctpa_core.cluster import here
from xray2ctpa_core.constants import NOTICE, RESULT_SCHEMA_VERSION
from xray2ctpa_core.generation.settings import Settings
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.provenance import package_versions, peak_memory_mb
from xray2ctpa_core.pipelines.bundle import BundleInfo
from xray2ctpa_core.pipelines.geometry import size_sentence
from xray2ctpa_core.volume import Radiograph, Volume

if TYPE_CHECKING:
    from xray2ctpa_core.pipelines.result import XRay2CTPAResult
    from xray2ctpa_core.preprocessing.gate import GateReport

PACKAGES = ("torch", "diffusers", "monai", "numpy", "SimpleITK", "nibabel")


def result_content(
    radiograph: Radiograph,
    generated: "XRay2CTPAResult",
    info: BundleInfo,
    settings: Settings,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """The content of result.json (design, section 4).

    Args:
        settings: with the actual device and precision.
        seconds: by stage.
    """
    # imports torch, which is not needed to read a record
    from xray2ctpa_core.pipelines.device import arithmetic

    return {
        "schema_version": RESULT_SCHEMA_VERSION,
        "input": input_content(radiograph),
        # A result of an image that the gate refuses exists only with --force.
        "gate": {**gate_content(generated.gate), "forced": not generated.gate.accepted},
        "bundle": bundle_content(info),
        "sampling": {
            "scheduler": settings.scheduler,
            "steps": settings.steps,
            "seed": settings.seed,
            "samples": settings.samples,
            "device": settings.device,
            "precision": settings.precision,
            "arithmetic": arithmetic(),
            "seconds": {stage: round(spent, 3) for stage, spent in seconds.items()},
            "peak_memory_mb": peak_memory_mb(),
            "notes": list(generated.notes),
            **({} if (place := here()) is None else {"made_on": place}),
        },
        "pe": pe_content(generated, info),
        "geometry": {
            **geometry_content(generated.ctpa),
            "spacing_source": generated.geometry_source,
            "size": size_sentence(generated.radiograph, generated.frame, info.geometry),
            "frame_in_film_pixels": asdict(generated.frame),
        },
        "consistency": generated.consistency,
        "software": software_versions(),
        "notice": NOTICE,
    }


def input_content(radiograph: Radiograph) -> dict[str, Any]:
    """Description of the input, without its folder."""
    return {
        "name": radiograph.name,
        "sha256": radiograph.sha256,
        "modality": radiograph.modality,
        "photometric": radiograph.photometric,
        "view": radiograph.view,
        "spacing_mm": None if radiograph.spacing_mm is None else list(radiograph.spacing_mm),
        "spacing_source": radiograph.spacing_source,
        "magnification": radiograph.magnification,
        "magnification_source": radiograph.magnification_source,
        "greys": radiograph.greys,
        "notes": list(radiograph.notes),
    }


def gate_content(gate: "GateReport") -> dict[str, Any]:
    """The input gate's score of a radiograph, 0..1, and its warnings as sentences."""
    return {"is_frontal_cxr": float(gate.is_frontal_cxr), "warnings": list(gate.warnings)}


def bundle_content(info: BundleInfo) -> dict[str, Any]:
    """Identity of the weights, and their training data."""
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "trained_on": info.trained_on,
        "is_demonstration": info.is_demonstration,
    }


def pe_content(generated: "XRay2CTPAResult", info: BundleInfo) -> dict[str, Any]:
    """The classifier's score on the generated volume, never a diagnosis; null for a bundle without
    classifier. ``unreliable``: why it means nothing for this radiograph, or null. ``second_opinion``: only of
    a bundle with a prior; its ``gradcam`` is the file of its map on the radiograph, or null."""
    probability, opinion = generated.pe_probability, generated.second_opinion
    drawn = None if generated.radiograph_gradcam is None else result_files.RADIOGRAPH_GRADCAM
    return {
        "probability": probability,
        "per_sample": list(generated.per_sample),
        "threshold": info.pe.threshold,
        "positive": None if probability is None else bool(probability >= info.pe.threshold),
        "calibrated": info.pe.calibrated,
        "unreliable": generated.pe_unreliable,
        **({} if opinion is None else {"second_opinion": {**opinion.content(), "gradcam": drawn}}),
    }


def geometry_content(volume: Volume) -> dict[str, Any]:
    """The grid: shape (D, H, W), spacing in mm along (i, j, k), origin and direction (rows) in LPS."""
    return {
        "shape": list(volume.array.shape),
        "spacing_mm": list(volume.spacing),
        "origin_lps": list(volume.origin),
        "direction": volume.direction.tolist(),
    }


def software_versions() -> dict[str, str | None]:
    """Versions of the software that computed the result; None for a package that is not installed as a
    package."""
    return {
        "xray2ctpa_core": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **package_versions(PACKAGES),
    }


def former_result(
    folder: Path, radiograph: Radiograph, info: BundleInfo, settings: Settings
) -> dict[str, Any] | None:
    """The content of result.json if ``folder`` is complete and was made from the same input with the same
    settings.

    The device or precision "auto" matches any.
    """
    try:
        content = result_files.read_record(folder)
        sampling = content["sampling"]
        same = (
            content["schema_version"] == RESULT_SCHEMA_VERSION
            and content["input"]["sha256"] == radiograph.sha256
            and content["bundle"]["sha256"] == info.sha256
            and all(
                sampling[key] == getattr(settings, key) for key in ("scheduler", "steps", "seed", "samples")
            )
            and (settings.force or not content["gate"]["forced"])
            and all(getattr(settings, key) in ("auto", sampling[key]) for key in ("device", "precision"))
        )
        has_map = bool(content["pe"].get("second_opinion", {}).get("gradcam"))
        also = [result_files.SPREAD] * (sampling["samples"] > 1) + [result_files.RADIOGRAPH_GRADCAM] * has_map
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # missing, unreadable, or not a result.json of ours: not this result
    complete = all((folder / name).is_file() for name in (*result_files.ALWAYS, *also))
    return content if same and complete else None


def to_json(content: dict[str, Any]) -> str:
    """``content`` as JSON text; numbers that are not finite become null, because JSON has no NaN."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
