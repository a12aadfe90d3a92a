"""Volume and Radiograph: arrays that know where they lie. Numpy only; all geometry is LPS in mm."""

from dataclasses import dataclass, field

import numpy as np

from xray2ctpa_core.errors import InputError


@dataclass(frozen=True)
class Volume:
    """A scalar volume in patient space.

    Attributes:
        array: (D, H, W) = (k, j, i), any real dtype; HU for CT.
        affine: (4, 4) float64, maps voxel index (i, j, k, 1) to LPS mm of the voxel's centre.
    """

    array: np.ndarray
    affine: np.ndarray

    def __post_init__(self) -> None:
        if self.array.ndim != 3:
            raise InputError(f"A volume needs 3 axes (D, H, W), got shape {self.array.shape}.")
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise InputError(f"A volume needs a finite 4x4 affine, got {self.affine!r}.")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-9:
            raise InputError("A volume needs an invertible affine, got a singular one.")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (i, j, k)."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))  # type: ignore[return-value]

    @property
    def origin(self) -> tuple[float, float, float]:
        """LPS position in mm of the centre of the first voxel."""
        return tuple(float(o) for o in self.affine[:3, 3])  # type: ignore[return-value]

    @property
    def direction(self) -> np.ndarray:
        """(3, 3) columns: unit vectors of the i, j and k axes in LPS."""
        return self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)

    def with_array(self, array: np.ndarray) -> "Volume":
        """The same grid with other voxels; raises InputError if the shape differs."""
        if array.shape != self.array.shape:
            raise InputError(f"Expected an array of shape {self.array.shape}, got {array.shape}.")
        return Volume(array, self.affine)


def axial_affine(
    shape: tuple[int, int, int],
    extent_mm: tuple[float, float, float],
    centre_lps: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> np.ndarray:
    """Affine of an axial grid: i to the Left, j to Posterior, k to Superior.

    Args:
        shape: (D, H, W).
        extent_mm: (z, y, x) edge-to-edge extent in mm, in the order of ``shape``.
        centre_lps: LPS position in mm of the grid's middle.
    """
    spacing = np.array([e / n for e, n in zip(extent_mm, shape, strict=True)])[::-1]
    size = np.array(shape)[::-1]
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.asarray(centre_lps) - spacing * (size - 1) / 2
    return affine


@dataclass(frozen=True)
class Radiograph:
    """One frontal chest radiograph as read from a file.

    Attributes:
        pixels: (H, W) float32 in [0, 1], bright = attenuating (bone white, lung dark); rows run from
            superior to inferior, columns from the patient's right to the patient's left.
        spacing_mm: (row, column) pixel size in mm at the detector, or in the patient where ``magnification``
            is 1; None where unknown.
        spacing_source: "PixelSpacing", "ImagerPixelSpacing", "header" or "unknown".
        name: file name shown to users (no folder).
        sha256: of the file's bytes, or over the digests of a header and its data file.
        modality: DICOM modality, else "unknown".
        photometric: DICOM photometric interpretation, else "unknown".
        view: DICOM view position ("PA", "AP", "LL"), else "unknown".
        notes: what reading changed or doubted, in sentences.
        magnification: size at the place of ``spacing_mm`` over size in the patient's middle; None where the
            file does not say.
        magnification_source: what in the file says so, "" where nothing does.
        greys: how the greys were found, in words.
        age_years: of the patient, None where the file does not say.
        sides: what in the file says which side is the patient's left, "" where nothing does.
    """

    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None = None
    spacing_source: str = "unknown"
    name: str = ""
    sha256: str = ""
    modality: str = "unknown"
    photometric: str = "unknown"
    view: str = "unknown"
    notes: tuple[str, ...] = field(default_factory=tuple)
    magnification: float | None = None
    magnification_source: str = ""
    greys: str = ""
    age_years: float | None = None
    sides: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 2:
            raise InputError(f"A radiograph needs 2 axes (H, W), got shape {self.pixels.shape}.")
        if not np.isfinite(self.pixels).all():
            raise InputError("A radiograph's pixels must be finite, got NaN or infinity.")


@dataclass(frozen=True)
class FrontalFrame:
    """The square of a radiograph that the networks read: the lungs' box, widened by FRAME_MARGIN.

    Attributes:
        top, left: edges of the square in pixels of the radiograph (may lie outside it).
        side: side of the square in pixels.
    """

    top: float
    left: float
    side: float
