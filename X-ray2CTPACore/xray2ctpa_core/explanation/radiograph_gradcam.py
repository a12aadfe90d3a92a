"""Grad-CAM of a radiograph's PE score, on the radiograph.

Selvaraju et al., ICCV 2017, equations 1 and 2, as implemented by MONAI.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.gradcam import coarse_heat
from xray2ctpa_core.volume import FrontalFrame


class _Explained(nn.Module):
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network.explained(image)


def radiograph_gradcam(network: nn.Module, image: torch.Tensor) -> np.ndarray:
    """Grad-CAM map of the network's PE logit.

    Args:
        network: with ``gradcam_layer``, the name of one of its modules (None where it has no such layer), and
            ``explained(image) -> (1, 1)`` logits; it is not changed.
        image: (1, 1, P, P), the input of the network.

    Returns:
        (P, P) float32 in 0..1, 1 at the strongest evidence; all 0 where no activation raises the logit.

    Raises:
        InputError: the network has no such layer, or ``image`` is not one image.
    """
    layer = getattr(network, "gradcam_layer", None)
    if layer is None or layer not in dict(network.named_modules()):
        raise InputError(
            f"Grad-CAM needs a layer of maps in {type(network).__name__}, got {layer!r}.",
            "Transformer encoders have none.",
        )
    if image.ndim != 4 or len(image) != 1:
        raise InputError(f"Grad-CAM needs one image (1, 1, P, P), got shape {tuple(image.shape)}.")
    coarse = coarse_heat(_Explained(network), f"network.{layer}", image)
    heat = F.interpolate(coarse, size=image.shape[2:], mode="bilinear", align_corners=False)
    peak = float(heat.max())
    scaled = heat[0, 0] / peak if peak > 0 else torch.zeros_like(heat[0, 0])
    return scaled.clamp(0, 1).cpu().numpy().astype(np.float32)


def on_radiograph(
    heat: np.ndarray, frame: FrontalFrame, shape: tuple[int, int], drawn: tuple[int, int] | None = None
) -> np.ndarray:
    """A map of the frame, resampled to the whole radiograph: float32 of shape ``drawn``, 0 outside the frame.

    Args:
        heat: (P, P), of the frame.
        frame: in pixels of the radiograph.
        shape: (H, W) of the radiograph.
        drawn: (h, w) of the result; None for the radiograph's own pixels.
    """
    (height, width), (high, wide) = shape, drawn or shape
    size = heat.shape[0]
    rows = ((np.arange(high) + 0.5) * height / high - frame.top) / frame.side * size - 0.5
    columns = ((np.arange(wide) + 0.5) * width / wide - frame.left) / frame.side * size - 0.5
    grid = np.meshgrid(2 * (rows + 0.5) / size - 1, 2 * (columns + 0.5) / size - 1, indexing="ij")
    places = torch.from_numpy(np.stack(grid[::-1], -1).astype(np.float32))[None]
    laid = F.grid_sample(
        torch.from_numpy(np.ascontiguousarray(heat, np.float32))[None, None],
        places,
        padding_mode="border",
        align_corners=False,
    )[0, 0].numpy()
    inside = np.outer(np.abs(rows - size / 2 + 0.5) <= size / 2, np.abs(columns - size / 2 + 0.5) <= size / 2)
    return np.where(inside, laid, 0).astype(np.float32)
