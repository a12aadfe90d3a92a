"""The radiograph of one study as an X-ray encoder reads it, with provenance."""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.data.cases import save_array
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.errors import InputError, NotFrontalCXRError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.preprocessing.cxr import CxrSettings, radiograph_image
from xray2ctpa_core.preprocessing.frame import NORMALISATION, frame_image
from xray2ctpa_core.volume import Radiograph

#: (P, P) float32, what an X-ray encoder reads.
CXR_FILE = "cxr.npy"


def write_film_input(settings: CxrSettings, study: Study, folder: Path) -> dict[str, Any]:
    """Writes CXR_FILE as the papers' encoders read it and returns the record.

    Raises:
        InputError: the study has no radiograph, or it cannot be read.
    """
    radiograph = _radiograph_of(study)
    save_array(radiograph_image(radiograph.pixels, settings), folder / CXR_FILE)
    return {"source": _film_source(study, radiograph), "settings": asdict(settings)}


@dataclass(frozen=True)
class FrameSettings:
    """How a radiograph is brought to this project's own encoders.

    Attributes:
        locator: folder of the lung locator (a bundle's lung_locator).
        pixels: along a side.
        force: takes films that the input gate refuses, too.
    """

    locator: str
    pixels: int = FRAME_PIXELS
    force: bool = False


def write_frame_input(settings: FrameSettings, study: Study, folder: Path) -> dict[str, Any]:
    """Writes CXR_FILE, the lungs' frame with equalised greys, and returns the record.

    Raises:
        InputError: the study has no radiograph, or it cannot be read.
        NotFrontalCXRError: the gate refuses it.
    """
    radiograph = _radiograph_of(study)
    reading = frame_radiograph(_locator(settings.locator), radiograph)
    if not reading.gate.accepted and not settings.force:
        raise NotFrontalCXRError(
            f"Expected an upright frontal chest radiograph, got {radiograph.name} with a score of "
            f"{reading.gate.is_frontal_cxr:.2f}. {' '.join(reading.gate.warnings)}".rstrip(),
            "force=true takes it all the same.",
        )
    save_array(frame_image(reading.radiograph.pixels, reading.frame, settings.pixels), folder / CXR_FILE)
    return {
        "source": _film_source(study, reading.radiograph),
        "settings": {"pixels": settings.pixels, "normalisation": NORMALISATION, "force": settings.force},
        "frame": asdict(reading.frame),
        "gate": {
            "is_frontal_cxr": float(reading.gate.is_frontal_cxr),
            "warnings": list(reading.gate.warnings),
        },
    }


@functools.lru_cache(maxsize=1)
def _locator(folder: str) -> LungLocator:
    return LungLocator.from_pretrained(folder, use_safetensors=True).eval()


def _radiograph_of(study: Study) -> Radiograph:
    if study.radiograph is None:
        raise InputError(f"Expected a radiograph of study {study.id}, got none in its table.")
    return read_radiograph(study.radiograph)


def _film_source(study: Study, radiograph: Radiograph) -> dict[str, Any]:
    """Where a radiograph came from, and what reading it changed or doubted."""
    return {
        "where": study.where,
        "path": str(study.radiograph),
        "name": radiograph.name,
        "sha256": radiograph.sha256,
        "shape": list(radiograph.pixels.shape),
        "spacing_mm": None if radiograph.spacing_mm is None else list(radiograph.spacing_mm),
        "spacing_source": radiograph.spacing_source,
        "modality": radiograph.modality,
        "view": radiograph.view,
        "notes": list(radiograph.notes),
    }
