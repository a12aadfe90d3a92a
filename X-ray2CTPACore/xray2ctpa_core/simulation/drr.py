"""Radiographs computed from a CT with DiffDRR (Gopalakrishnan and Golland, CLIP 2022), with true sizes.

The released X-ray2CTPA script writes its volumes without spacing, so that DiffDRR assumes voxels of 1 mm, and
has a detector of 512 mm for every chest: sizes are wrong and wide chests are cut. Here the affine is used,
the detector's pixels are large enough for the whole scan, and their size is recorded.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.preprocessing.grid import to_axial
from xray2ctpa_core.simulation.projection import attenuation
from xray2ctpa_core.volume import Volume

VIEWS = ("PA", "AP")
#: Rays are cast in square patches of at most this side, which bounds the memory.
_PATCH = 64
#: Rotation of DiffDRR's C-arm, whose beam is along z, towards posterior (AP) or anterior (PA), head up.
_C_ARM = {
    "AP": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    "PA": [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
}
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class DrrSettings:
    """Geometry of source and detector.

    Attributes:
        source_to_detector_mm: distance from source to detector; 1200 in the papers.
        source_to_centre_mm: distance from source to the centre of the scan; 850 in the papers.
        pixels: pixels along a side of the detector.
        pixel_mm: pixel spacing at the detector; 0 takes the smallest with which the whole scan fits.
        view: "PA" (source behind the patient, as in most radiographs) or "AP" (as in the released script).
    """

    source_to_detector_mm: float = 1200.0
    source_to_centre_mm: float = 850.0
    pixels: int = 512
    pixel_mm: float = 0.0
    view: str = "PA"

    def __post_init__(self) -> None:
        if not 0 < self.source_to_centre_mm < self.source_to_detector_mm < math.inf:
            raise ConfigError(
                f"Expected 0 < source_to_centre_mm < source_to_detector_mm, got {self.source_to_centre_mm} "
                f"and {self.source_to_detector_mm}."
            )
        if self.pixels < 2 or self.pixel_mm < 0 or self.view not in VIEWS:
            raise ConfigError(
                f"Expected pixels >= 2, pixel_mm >= 0 and view out of {', '.join(VIEWS)}, got {self.pixels}, "
                f"{self.pixel_mm} and {self.view!r}."
            )


def render_drr(volume: Volume, settings: DrrSettings) -> tuple[np.ndarray, float]:
    """The computed radiograph of a CT.

    Args:
        volume: HU, any orientation; its centre is the isocentre.
        settings: geometry.

    Returns:
        (P, P) float32, line integrals of the linear attenuation (`simulation.projection.attenuation`; no
        unit), rows from superior, columns from the patient's right; and the pixel size at the detector in mm.

    Raises:
        InputError: diffdrr is not installed, or the scan reaches the source or the detector.
    """
    axial = to_axial(volume)
    pixel_mm = settings.pixel_mm or fitting_pixel_mm(axial, settings)
    drr = _projector(axial, settings, pixel_mm)
    toward_source = settings.source_to_centre_mm * (1 if settings.view == "AP" else -1)
    pose = torch.tensor([[0.0, 0.0, 0.0]]), torch.tensor([[0.0, toward_source, 0.0]])
    with torch.no_grad():
        image = drr(*pose, parameterization="euler_angles", convention="ZXY")
    return image[0, 0].numpy(), pixel_mm


def _projector(axial: Volume, settings: DrrSettings, pixel_mm: float) -> "torch.nn.Module":
    """DiffDRR's module for the attenuation of ``axial``, whose centre is at the world's origin.

    `diffdrr.data.read` is not used, because it scales the densities of each scan to [0, 1] by their extremes.
    """
    try:
        from diffdrr.data import canonicalize
        from diffdrr.drr import DRR
        from torchio import ScalarImage, Subject
    except ModuleNotFoundError as error:
        raise InputError(
            f"Computed radiographs need the package {error.name}, which is not installed.",
            "Install the extra: pip install 'xray2ctpa-core[training]'.",
        ) from error
    hu = torch.from_numpy(np.ascontiguousarray(axial.array.transpose(2, 1, 0), dtype=np.float32))[None]
    density, affine = attenuation(hu), _LPS_TO_RAS @ axial.affine
    subject = Subject(
        volume=ScalarImage(tensor=density, affine=affine),
        density=ScalarImage(tensor=density, affine=affine),
        mask=None,
        fiducials=None,
        orientation=settings.view,
        reorient=torch.tensor(_C_ARM[settings.view]),
    )
    return DRR(
        canonicalize(subject),
        sdd=settings.source_to_detector_mm,
        height=settings.pixels,
        delx=pixel_mm,
        renderer="trilinear",
        patch_size=min(_PATCH, settings.pixels),
    )


def fitting_pixel_mm(volume: Volume, settings: DrrSettings) -> float:
    """Smallest pixel spacing in mm with which all of ``volume`` fits on the detector.

    Raises:
        InputError: the scan reaches the source or the detector.
    """
    size = np.array(volume.array.shape)[::-1]
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size])).reshape(3, -1)
    x, y, z = volume.affine[:3, :3] @ (corners - (size[:, None] - 1) / 2)
    depth = float(np.abs(y).max())
    behind = settings.source_to_detector_mm - settings.source_to_centre_mm
    if depth >= min(settings.source_to_centre_mm, behind):
        raise InputError(
            f"Expected a scan between source and detector, got one that reaches {depth:.0f} mm away from its "
            "middle.",
            "Move the source and the detector away from it.",
        )
    magnification = settings.source_to_detector_mm / (settings.source_to_centre_mm - depth)
    return float(2 * max(np.abs(x).max(), np.abs(z).max()) * magnification / settings.pixels)
