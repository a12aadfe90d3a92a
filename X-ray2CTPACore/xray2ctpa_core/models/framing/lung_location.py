"""Runs the lung locator on images: numpy arrays -> masks, box and class probabilities."""

from dataclasses import dataclass

import numpy as np
import torch

from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.preprocessing.content import anatomy_edges, content_box
from xray2ctpa_core.preprocessing.heart_side import mirrored_probability
from xray2ctpa_core.preprocessing.letterbox import letterbox
from xray2ctpa_core.preprocessing.lung_box import LungShape, lung_shape
from xray2ctpa_core.volume import FrontalFrame


@dataclass(frozen=True)
class LungLocation:
    """Position of the lungs in a radiograph, and class of the image.

    Attributes:
        mask: (2, size, size) bool on the letterboxed radiograph; lung on the image's left, on its right.
        square: the letterbox, i.e. the square in radiograph pixels that ``mask`` covers.
        shape: box and features in pixels of ``mask``.
        box: (top, left, bottom, right) of the lungs in radiograph pixels, or None where none was found.
        class_probabilities: (3,) float64, order preprocessing.lung_box.CLASS_NAMES, sum 1.
        mirrored: probability that left and right are exchanged, 0..1.
    """

    mask: np.ndarray
    square: FrontalFrame
    shape: LungShape
    box: tuple[float, float, float, float] | None
    class_probabilities: np.ndarray
    mirrored: float


def locate_lungs_in(locator: LungLocator, greys: list[np.ndarray]) -> list[LungLocation]:
    """Lungs and class of each image (H, W), bright = attenuating, in one pass of the network."""
    size = int(locator.config["size"])
    contents = [content_box(grey) for grey in greys]
    boxed = [letterbox(p, size, content) for p, content in zip(greys, contents, strict=True)]
    images = torch.from_numpy(np.stack([image for image, _ in boxed]))[:, None]
    images = images.to(device=locator.device, dtype=locator.dtype)
    with torch.inference_mode():
        output = locator(images)
        both = torch.cat([output.class_logits, output.mask_logits.flatten(1)], 1).cpu()  # a GPU is waited for
    classes, flat = both.split(
        (output.class_logits.shape[1], both.shape[1] - output.class_logits.shape[1]), 1
    )
    masks = (flat > 0).unflatten(1, output.mask_logits.shape[1:]).numpy()
    probabilities = classes.double().softmax(dim=1).numpy()
    return [
        _location(m, square, anatomy_edges(grey, content), p, mirrored_probability(m, image))
        for m, (image, square), p, grey, content in zip(
            masks, boxed, probabilities, greys, contents, strict=True
        )
    ]


def _location(
    mask: np.ndarray,
    square: FrontalFrame,
    edges: tuple[float, float, float, float],
    probabilities: np.ndarray,
    mirrored: float,
) -> LungLocation:
    step = square.side / mask.shape[-1]
    corner = np.array([square.top, square.left] * 2)
    top, left, bottom, right = (np.array(edges) - corner) / step
    shape = lung_shape(mask, (top, left, bottom, right))
    box = None
    if shape.box is not None:
        box = tuple(float(v) for v in np.array(shape.box) * step + corner)
    return LungLocation(mask, square, shape, box, probabilities, mirrored)  # type: ignore[arg-type]
