"""3D Grad-CAM of the latent PE classifier, on the grid of the generated volume.

Selvaraju et al., Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization, ICCV
2017, equations 1 and 2, as implemented by MONAI.
"""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from monai.visualize.class_activation_maps import GradCAM
from torch import nn

from xray2ctpa_core.constants import GRADCAM_LABEL_THRESHOLDS
from xray2ctpa_core.errors import InputError


def gradcam_map(
    classifier: nn.Module,
    target_layer: str,
    latents: torch.Tensor,
    grid: tuple[int, int, int],
    full: float | None = None,
) -> np.ndarray:
    """Where the classifier's first logit draws its evidence from.

    Args:
        classifier: module that maps ``latents`` to logits (1, 1); left as it was found.
        target_layer: name, as in ``named_modules()``, of the layer whose activations are weighted.
        latents: (1, C, D, H, W) as the classifier reads them.
        grid: (D, H, W) of the map wanted.
        full: heat, before it is scaled, that counts as 1 (see `gradcam_peak`). Where the strongest heat is
            less, the map stays below 1: what hardly speaks for PE does not look as if it did. None scales
            every map to its own strongest place.

    Returns:
        (D, H, W) float32 in 0..1, 1 at the strongest evidence for PE if that reaches ``full``; all 0 where
        no activation speaks for PE. The same input gives the same map.

    Raises:
        InputError: ``target_layer`` is no layer of ``classifier``, or ``latents`` is not one case.
    """
    heat = _heat(classifier, target_layer, latents, grid)
    peak = float(heat.max())
    scaled = heat / max(peak, full or 0.0) if peak > 0 else torch.zeros_like(heat)
    return scaled.clamp(0, 1).cpu().numpy().astype(np.float32)


def gradcam_peak(
    classifier: nn.Module, target_layer: str, latents: torch.Tensor, grid: tuple[int, int, int]
) -> float:
    """The strongest heat, not scaled, of what `gradcam_map` shows for the same arguments: comparable between
    volumes that one classifier reads, not between classifiers."""
    return float(_heat(classifier, target_layer, latents, grid).max())


def _heat(
    classifier: nn.Module, target_layer: str, latents: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """(D, H, W) float32, at least 0, not scaled."""
    if target_layer not in dict(classifier.named_modules()):
        raise InputError(f"Grad-CAM needs a layer of {type(classifier).__name__}, got {target_layer!r}.")
    if latents.ndim != 5 or latents.shape[0] != 1:
        raise InputError(f"Grad-CAM needs latents (1, C, D, H, W), got shape {tuple(latents.shape)}.")
    # MONAI leaves its hooks and gradients in the module: it gets a copy. The latents' gradient alone is
    # enough for the layer's, so the copy's parameters stay frozen; gradients want full precision.
    with torch.inference_mode(False), torch.enable_grad():
        cam = GradCAM(copy.deepcopy(classifier).float().requires_grad_(False), target_layer)
        coarse = cam.compute_map(latents.detach().clone().float().requires_grad_(), class_idx=0)
    return F.interpolate(coarse.detach().float(), size=grid, mode="trilinear", align_corners=False)[0, 0]


def label_map(gradcam: np.ndarray) -> np.ndarray:
    """Grad-CAM (0..1) as uint8 labels of the same shape: 0 nothing, 1 low, 2 medium, 3 high."""
    return np.digitize(gradcam, GRADCAM_LABEL_THRESHOLDS).astype(np.uint8)
