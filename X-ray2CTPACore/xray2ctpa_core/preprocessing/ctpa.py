"""A CTPA as input of the papers' networks (X-ray2CTPA, section 3.2): windowed, cropped, resized.

The order is the paper's: 1 mm, HU window, lung crop, resize, alternate slices. The released scripts crop
before they resample and round to int16 before they apply the window; they never take alternate slices.
"""

import math
from dataclasses import dataclass

import numpy as np

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.preprocessing.grid import (
    Box,
    alternate_slices,
    cropped,
    isotropic_grid,
    resample_onto,
    resized,
    to_axial,
)
from xray2ctpa_core.preprocessing.lungs import METHODS, lung_box, segment_lungs
from xray2ctpa_core.volume import Volume

#: Name of "no lung crop" beside the methods of `lungs`.
WHOLE = "none"
#: Parts of the scan that can be kept.
BOX, FRAME = "box", "frame"


@dataclass(frozen=True)
class CtpaSettings:
    """How a CTPA is converted to the networks' grid.

    Attributes:
        spacing_mm: of the isotropic grid on which lungs are found and cropped.
        window: (lower, upper) HU; values outside are clipped.
        crop: "box", the lungs' bounding box as in the papers, or "frame", the square of a radiograph's
            frame (`simulation.lung_frame`), for networks whose volume lies in it.
        lungs: segmentation for the crop: "auto", "lungmask", "threshold", or "none" for the whole scan.
        lungmask_weights: file; "" takes torch's cache.
        margin_mm: around the lungs' bounding box (the papers state none); a frame has its own.
        shape: (D, H, W) after resizing.
        interleave: number of volumes that are made of one scan, each of every n-th slice (paper: 2, of 64
            slices).
        map: whether the CT is registered with the reference of a bank of atlases, for a frame of one volume.
    """

    spacing_mm: float = 1.0
    window: tuple[float, ...] = PAPER_HU_WINDOW
    crop: str = BOX
    lungs: str = "auto"
    lungmask_weights: str = ""
    margin_mm: float = 10.0
    shape: tuple[int, ...] = (128, 256, 256)
    interleave: int = 2
    map: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.spacing_mm) and self.spacing_mm > 0) or not self.margin_mm >= 0:
            raise ConfigError(
                f"Expected spacing_mm > 0 and margin_mm >= 0, got {self.spacing_mm} and {self.margin_mm}."
            )
        if len(self.window) != 2 or not self.window[0] < self.window[1]:
            raise ConfigError(f"Expected window as (lower, upper) HU, got {self.window}.")
        if self.lungs not in (*METHODS, WHOLE):
            raise ConfigError(f"Expected lungs out of {', '.join((*METHODS, WHOLE))}, got {self.lungs!r}.")
        if self.crop not in (BOX, FRAME):
            raise ConfigError(f"Expected crop out of {BOX}, {FRAME}, got {self.crop!r}.")
        if self.crop == FRAME and self.lungs == WHOLE:
            raise ConfigError(
                f"Expected lungs for crop={FRAME}, got {WHOLE}.", "Set lungs=auto: the frame is around them."
            )
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ConfigError(f"Expected shape as three positive numbers (D, H, W), got {self.shape}.")
        if self.interleave < 1 or self.shape[0] % self.interleave:
            raise ConfigError(
                f"Expected an interleave that divides the {self.shape[0]} slices, got {self.interleave}."
            )
        if self.map and (self.crop != FRAME or self.interleave != 1):
            raise ConfigError(
                f"Expected crop={FRAME} and interleave=1 with map, got {self.crop} and {self.interleave}.",
                "A map leads from the voxels of one volume in a radiograph's frame.",
            )


@dataclass(frozen=True)
class ProcessedCtpa:
    """Result of `preprocess_ctpa`.

    Attributes:
        volumes: ``interleave`` volumes (D / interleave, H, W) float32 HU in the window, each with the affine
            that maps its voxels to the patient.
        box: kept voxels along (k, j, i) of the isotropic grid; None for a frame, which may be larger.
        grid: shape (D, H, W) of the isotropic grid.
        lungs: how the lungs were found.
    """

    volumes: tuple[Volume, ...]
    box: Box | None
    grid: tuple[int, int, int]
    lungs: str


def preprocess_ctpa(volume: Volume, settings: CtpaSettings) -> ProcessedCtpa:
    """Runs the paper's steps on a CT in HU, in any orientation, with crop="box".

    Raises:
        InputError: NaN or infinite voxels, or no lungs found.
    """
    fine = isotropic(volume, settings)
    box, used = _crop_box(fine, settings)
    lower, upper = settings.window
    windowed = fine.with_array(np.clip(fine.array, lower, upper))
    depth, height, width = settings.shape
    made = resized(cropped(windowed, box), (depth, height, width))
    return ProcessedCtpa(alternate_slices(made, settings.interleave), box, shape_of(fine), used)


def isotropic(volume: Volume, settings: CtpaSettings) -> Volume:
    """The CT on an axial grid of cubic voxels; raises InputError for NaN or infinite ones."""
    bad = int(volume.array.size - np.count_nonzero(np.isfinite(volume.array)))
    if bad:
        raise InputError(f"Expected finite voxels, got {bad} NaN or infinite of {volume.array.size}.")
    axial = to_axial(volume)
    return resample_onto(axial, *isotropic_grid(axial, settings.spacing_mm))


def shape_of(volume: Volume) -> tuple[int, int, int]:
    """(D, H, W)."""
    depth, height, width = volume.array.shape
    return depth, height, width


def _crop_box(fine: Volume, settings: CtpaSettings) -> tuple[Box, str]:
    if settings.lungs == WHOLE:
        depth, height, width = shape_of(fine)
        return ((0, depth), (0, height), (0, width)), "not looked for"
    mask, used = segment_lungs(fine, settings.lungs, settings.lungmask_weights)
    return lung_box(mask, fine.spacing, settings.margin_mm), used
