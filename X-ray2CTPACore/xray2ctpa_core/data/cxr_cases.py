"""The radiograph of one study, preprocessed for a radiograph encoder, with provenance."""

import functools
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.data.cases import save_array
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.virtual_radiographs import augment_radiograph, read_virtual_radiograph
from xray2ctpa_core.errors import InputError, NotFrontalCXRError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.preprocessing.cxr import CxrSettings, radiograph_image
from xray2ctpa_core.preprocessing.frame import NORMALISATION, frame_image
from xray2ctpa_core.volume import FrontalFrame, Radiograph

#: (P, P) float32, the input of a radiograph encoder.
CXR_FILE = "cxr.npy"


def write_radiograph_input(
    settings: CxrSettings, study: Study, folder: Path, style: str = ""
) -> dict[str, Any]:
    """Writes CXR_FILE, preprocessed as in the papers, and returns the record.

    Args:
        settings: size and normalisation.
        study: of which the radiograph is read.
        folder: of the case.
        style: folder of a style transfer that translates the radiograph; "" for none.

    Raises:
        InputError: the study has no radiograph, or it cannot be read.
    """
    radiograph = _radiograph_of(study)
    image = _in_style(radiograph_image(radiograph.pixels, settings), style, settings.mean, settings.std)
    save_array(image, folder / CXR_FILE)
    return {"source": _radiograph_source(study, radiograph), "settings": asdict(settings)}


@dataclass(frozen=True)
class FrameSettings:
    """Preprocessing of a radiograph for this project's own encoders.

    Attributes:
        locator: folder of the lung locator (a bundle's lung_locator).
        pixels: pixels along a side.
        force: also accept radiographs that the input gate refuses.
        variants: number of augmented frames beside the plain one.
        style: folder of a style transfer that translates every frame; "" for none.
    """

    locator: str
    pixels: int = FRAME_PIXELS
    force: bool = False
    variants: int = 0
    style: str = ""


def write_frame_input(settings: FrameSettings, study: Study, folder: Path) -> dict[str, Any]:
    """Writes CXR_FILE, the frame around the lungs with equalised grey values, and returns the record.

    A virtual patient's frame is known. With variants the file is (1 + V, P, P) float16: the plain frame, then
    V with other exposure, devices and letters, which depend on the study's id only.

    Raises:
        InputError: the study has no radiograph, or it cannot be read.
        NotFrontalCXRError: the gate refuses it.
    """
    if study.findings is not None:
        pixels, known = read_virtual_radiograph(study.findings.parent)
        save_array(_frames(settings, study, pixels, known), folder / CXR_FILE)
        return {"source": {"where": study.where, "path": str(study.radiograph)}, "frame": asdict(known)}
    radiograph = _radiograph_of(study)
    reading = frame_radiograph(lung_locator(settings.locator), radiograph)
    if not reading.gate.accepted and not settings.force:
        raise NotFrontalCXRError(
            f"Expected an upright frontal chest radiograph, got {radiograph.name} with a score of "
            f"{reading.gate.is_frontal_cxr:.2f}. {' '.join(reading.gate.warnings)}".rstrip(),
            "force=true accepts it all the same.",
        )
    save_array(_frames(settings, study, reading.radiograph.pixels, reading.frame), folder / CXR_FILE)
    return {
        "source": _radiograph_source(study, reading.radiograph),
        "settings": {"pixels": settings.pixels, "normalisation": NORMALISATION, "force": settings.force},
        "frame": asdict(reading.frame),
        "gate": {
            "is_frontal_cxr": float(reading.gate.is_frontal_cxr),
            "warnings": list(reading.gate.warnings),
        },
    }


def _frames(settings: FrameSettings, study: Study, pixels: np.ndarray, frame: FrontalFrame) -> np.ndarray:
    """(P, P) float32, or with variants (1 + V, P, P) float16."""
    if not settings.variants:
        return _in_style(frame_image(pixels, frame, settings.pixels), settings.style)
    seed = zlib.crc32(study.id.encode())
    augmented = (
        augment_radiograph(pixels, np.random.default_rng([seed, v])) for v in range(settings.variants)
    )
    made = [
        _in_style(frame_image(radiograph, frame, settings.pixels), settings.style)
        for radiograph in (pixels, *augmented)
    ]
    return np.stack(made).astype(np.float16)


def _in_style(image: np.ndarray, style: str, mean: float = 0.0, std: float = 1.0) -> np.ndarray:
    """(P, P) float32 standardised by ``mean`` and ``std`` -> the same, through the style transfer in the
    folder ``style``, if any."""
    if not style:
        return image
    styled: np.ndarray = (
        style_transfer(style).restyled(torch.from_numpy(image)[None, None], mean, std)[0, 0].numpy()
    )
    return styled


@functools.lru_cache(maxsize=1)
def style_transfer(folder: str) -> StyleTransfer:
    """The style transfer in ``folder``, read once a process."""
    return StyleTransfer.from_pretrained(folder, use_safetensors=True).eval()


@functools.lru_cache(maxsize=1)
def lung_locator(folder: str) -> LungLocator:
    """The lung locator in ``folder``, read once a process."""
    return LungLocator.from_pretrained(folder, use_safetensors=True).eval()


def _radiograph_of(study: Study) -> Radiograph:
    if study.radiograph is None:
        raise InputError(f"Expected a radiograph of study {study.id}, got none in its table.")
    return read_radiograph(study.radiograph)


def _radiograph_source(study: Study, radiograph: Radiograph) -> dict[str, Any]:
    """Record of a radiograph's source, and of corrections and doubts of its reader."""
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
