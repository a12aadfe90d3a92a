"""result.json: what a result folder says about how its volume came to be."""

import json
import math
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xray2ctpa_core import __version__
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
    """The object that result.json holds (design, section 4).

    Args:
        settings: with device and precision as they were used.
        seconds: by stage.
    """
    from xray2ctpa_core.pipelines.device import arithmetic  # brings torch, which reading a record needs not

    return {
        "schema_version": RESULT_SCHEMA_VERSION,
        "input": input_content(radiograph),
        # Only with --force does a result come of a picture that the gate refuses.
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
    """What was read, without the folder it lay in."""
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
    """What the input gate says of a radiograph: its score, 0..1, and its warnings as sentences."""
    return {"is_frontal_cxr": float(gate.is_frontal_cxr), "warnings": list(gate.warnings)}


def bundle_content(info: BundleInfo) -> dict[str, Any]:
    """Which weights, and what they were trained on."""
    return {
        "name": info.name,
        "version": info.version,
        "sha256": info.sha256,
        "trained_on": info.trained_on,
        "is_demonstration": info.is_demonstration,
    }


def pe_content(generated: "XRay2CTPAResult", info: BundleInfo) -> dict[str, Any]:
    """The classifier's score on the generated volume, never a diagnosis; null of a bundle without
    classifier."""
    probability, opinion = generated.pe_probability, generated.second_opinion
    return {
        "probability": probability,
        "per_sample": list(generated.per_sample),
        "threshold": info.pe.threshold,
        "positive": None if probability is None else bool(probability >= info.pe.threshold),
        "calibrated": info.pe.calibrated,
        **({} if opinion is None else {"second_opinion": opinion.content()}),
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
    """Versions of what computed the result; None for a package that is not installed as such."""
    return {
        "xray2ctpa_core": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        **package_versions(PACKAGES),
    }


def former_result(
    folder: Path, radiograph: Radiograph, info: BundleInfo, settings: Settings
) -> dict[str, Any] | None:
    """The content of result.json if ``folder`` is complete and made from the same input in the same way.

    "auto" as device or precision accepts whichever was used.
    """
    try:
        content = json.loads((folder / result_files.RECORD).read_text(encoding="utf-8"))
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
        spread = [result_files.SPREAD] if sampling["samples"] > 1 else []
    except (OSError, ValueError, KeyError, TypeError):
        return None  # absent, unreadable or no result.json of ours: then it is not this result
    complete = all((folder / name).is_file() for name in (*result_files.ALWAYS, *spread))
    return content if same and complete else None


def to_json(content: dict[str, Any]) -> str:
    """``content`` as JSON text; what is not a finite number becomes null, as JSON has no NaN."""
    return json.dumps(_finite(content), indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
