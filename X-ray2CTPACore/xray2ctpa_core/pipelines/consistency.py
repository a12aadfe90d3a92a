"""Agreement of the generated volume's frontal projection with the radiograph."""

import numpy as np
import torch

from xray2ctpa_core.constants import DEPTH_FRACTION
from xray2ctpa_core.metrics.projection import normalised_cross_correlation
from xray2ctpa_core.preprocessing.frame import equalise
from xray2ctpa_core.simulation.projection import RADIOGRAPH_DENSEST_HU, attenuation, project


def frontal_radiograph(
    hu: np.ndarray,
    frame_side_mm: float,
    depth_fraction: float = DEPTH_FRACTION,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """The volume's perspective PA projection with equalised greys.

    Args:
        hu: (D, H, W) HU, the frame's volume.
        frame_side_mm: its frontal side.
        depth_fraction: its depth over its side.
        device: where it is projected.

    Returns:
        (W, W) float32 in [0, 1], rows from the top, columns from the patient's right.
    """
    depth = depth_fraction * frame_side_mm
    planes = (torch.arange(hu.shape[1], device=device) + 0.5 - hu.shape[1] / 2) * depth / hu.shape[1]
    native = torch.from_numpy(np.array(hu, np.float32, order="C")).to(device)
    values = attenuation(native.clamp(max=RADIOGRAPH_DENSEST_HU))
    lines = project(values, planes, (0.0, 0.0)).flip(0)
    side = hu.shape[2]
    square = torch.nn.functional.interpolate(
        lines[None, None], size=(side, side), mode="bilinear", align_corners=False
    )[0, 0]
    read = square.cpu().numpy()  # a GPU is waited for
    return equalise(read, np.ones(read.shape, dtype=bool))


def agreement(
    hu: np.ndarray,
    image: np.ndarray,
    frame_side_mm: float,
    depth_fraction: float,
    device: torch.device | str = "cpu",
) -> float:
    """Normalised cross-correlation of `frontal_radiograph` with the frame image from which the volume was
    generated.

    Args:
        hu: (D, H, W) HU.
        image: (P, P) float32 in [0, 1] from `frame_image`.
        frame_side_mm, depth_fraction, device: as in `frontal_radiograph`.
    """
    radiograph = frontal_radiograph(hu, frame_side_mm, depth_fraction, device)
    small = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(image)[None], radiograph.shape)[0]
    return normalised_cross_correlation(radiograph, small.numpy())
