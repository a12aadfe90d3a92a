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
    """Grad-CAM map of the classifier's first logit.

    Args:
        classifier: module that maps ``latents`` to logits (1, 1); it is not changed.
        target_layer: name, as in ``named_modules()``, of the layer whose activations are weighted.
        latents: (1, C, D, H, W), scaled as for the classifier.
        grid: (D, H, W) of the map.
        full: unscaled heat that is mapped to 1 (see `gradcam_peak`). A map with less heat stays below 1, so
            that weak evidence looks weak. None scales every map to its own maximum.

    Returns:
        (D, H, W) float32 in 0..1, 1 where the heat reaches ``full``; all 0 where no activation raises the
        logit. The same input gives the same map.

    Raises:
        InputError: ``target_layer`` is no layer of ``classifier``, or ``latents`` is not one case.
    """
    heat = _heat(classifier, target_layer, latents, grid)
    peak = heat.max()  # stays on the device, which is waited for once
    least = full or torch.finfo(heat.dtype).tiny
    scaled = torch.where(peak > 0, heat / peak.clamp(min=least), torch.zeros_like(heat))
    return scaled.clamp(0, 1).cpu().numpy().astype(np.float32)


def gradcam_peak(
    classifier: nn.Module, target_layer: str, latents: torch.Tensor, grid: tuple[int, int, int]
) -> float:
    """The largest unscaled heat of `gradcam_map` for the same arguments: comparable between volumes of one
    classifier, not between classifiers."""
    return float(_heat(classifier, target_layer, latents, grid).max())


def _heat(
    classifier: nn.Module, target_layer: str, latents: torch.Tensor, grid: tuple[int, int, int]
) -> torch.Tensor:
    """The unscaled heat, (D, H, W) float32, at least 0."""
    if target_layer not in dict(classifier.named_modules()):
        raise InputError(f"Grad-CAM needs a layer of {type(classifier).__name__}, got {target_layer!r}.")
    if latents.ndim != 5 or latents.shape[0] != 1:
        raise InputError(f"Grad-CAM needs latents (1, C, D, H, W), got shape {tuple(latents.shape)}.")
    coarse = coarse_heat(classifier, target_layer, latents)
    return F.interpolate(coarse, size=grid, mode="trilinear", align_corners=False)[0, 0]


def coarse_heat(module: nn.Module, layer: str, given: torch.Tensor) -> torch.Tensor:
    """The heat of the first logit on the grid of the layer's activations, float32.

    Args:
        module: the network. MONAI leaves hooks and gradients in it, so it gets a copy. Its parameters stay
            frozen: ``given`` requires a gradient, which suffices for the layer's. Gradients are computed in
            full precision.
        layer: name of one of its modules.
        given: its input, one case.
    """
    with torch.inference_mode(False), torch.enable_grad():
        cam = GradCAM(copy.deepcopy(module).float().requires_grad_(False), layer)
        coarse = cam.compute_map(given.detach().clone().float().requires_grad_(), class_idx=0)
    # Activations and score hold torch's graph, and that the hooks, which hold both: none would be freed.
    vars(cam.nn_module).clear()
    return coarse.detach().float()


def label_map(gradcam: np.ndarray) -> np.ndarray:
    """Grad-CAM (0..1) as uint8 labels of the same shape: 0 nothing, 1 low, 2 medium, 3 high."""
    return np.digitize(gradcam, GRADCAM_LABEL_THRESHOLDS).astype(np.uint8)
