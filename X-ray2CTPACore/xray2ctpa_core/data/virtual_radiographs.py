"""Virtual patients' radiographs: read and augmented."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from xray2ctpa_core.simulation.build import RADIOGRAPH_FILE, read_record
from xray2ctpa_core.simulation.fields import smooth_field
from xray2ctpa_core.simulation.radiograph_appearance import furnish
from xray2ctpa_core.volume import FrontalFrame


def read_virtual_radiograph(folder: Path) -> tuple[np.ndarray, FrontalFrame]:
    """A virtual patient's radiograph (H, W) float32 in [0, 1] and its frame."""
    with Image.open(folder / RADIOGRAPH_FILE) as image:
        pixels = np.asarray(image).astype(np.float32) / 65535
    return pixels, FrontalFrame(**read_record(folder)["frame"])


def augment_radiograph(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The radiograph (H, W) with other local contrast, blur, shading, noise, devices and letters, float32
    from 0 to 1; its geometry is unchanged.

    Grey curves need no augmentation, because `frame_image` depends only on the ranks of grey values.
    """
    side = pixels.shape[0]
    radiograph: np.ndarray = pixels.astype(np.float32)
    if rng.random() < 0.5:
        radiograph = ndimage.gaussian_filter(radiograph, rng.uniform(0.2, 1.4))
    if rng.random() < 0.6:
        reach = side * rng.uniform(0.02, 0.15)
        radiograph = radiograph + rng.uniform(-0.4, 1.5) * (
            radiograph - ndimage.gaussian_filter(radiograph, reach)
        )
    radiograph = radiograph + rng.exponential(0.05) * smooth_field(radiograph.shape, 3, rng)
    radiograph = radiograph + rng.exponential(0.01) * rng.normal(size=radiograph.shape)
    low, high = radiograph.min(), radiograph.max()
    return furnish(((radiograph - low) / max(high - low, 1e-6)).astype(np.float32), rng)
