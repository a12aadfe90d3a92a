"""Voxel agreement of two CT arrays in a stated HU window: MAE, PSNR, SSIM (3D) and mean-slice SSIM."""

import numpy as np
from scipy.ndimage import correlate1d

from xray2ctpa_core.errors import InputError

#: X2CT-GAN's data are HU + 1000 within this range; the peak of its PSNR is larger than the range.
X2CT_OFFSET, X2CT_RANGE, X2CT_PEAK = 1000.0, 2500.0, 4095.0
#: SSIM of Wang et al. 2004 (IEEE TIP 13, 600): Gaussian of sigma 1.5 on 11 samples, k1, k2.
SSIM_SIGMA = 1.5
SSIM_RADIUS = 5
SSIM_K1, SSIM_K2 = 0.01, 0.03


def to_unit(array: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Clips to the window (lower, upper) and maps it to float32 in [0, 1]."""
    lower, upper = window
    if not (lower < upper and np.isfinite([lower, upper]).all()):
        raise InputError(f"A window needs finite lower < upper, got {window}.")
    return ((np.clip(array, lower, upper).astype(np.float32) - lower) / (upper - lower)).astype(np.float32)


def mae(image: np.ndarray, reference: np.ndarray, window: tuple[float, float]) -> float:
    """Mean absolute error in the window's units (HU for CT), both arrays clipped to the window."""
    image, reference = _pair(image, reference, window)
    return float(np.abs(image - reference).mean(dtype=np.float64) * (window[1] - window[0]))


def psnr(image: np.ndarray, reference: np.ndarray, window: tuple[float, float]) -> float:
    """Peak signal-to-noise ratio in dB over all voxels; the peak is the window's width.

    Returns:
        10 log10(width^2 / mean squared error) with both arrays clipped to the window; inf where equal.
    """
    image, reference = _pair(image, reference, window)
    error = float(np.square(image - reference).mean(dtype=np.float64))
    return float("inf") if error == 0 else float(-10 * np.log10(error))


def x2ct_psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """PSNR in dB as in X2CT-GAN's release (Ying et al., CVPR 2019), which is not comparable with `psnr`.

    Its peak is 4095 for data with a range of 2500, which adds 4.29 dB. It is averaged over the slices along
    each axis, and over the axes; slices without a difference are left out.

    Args:
        image, reference: (D, H, W) HU; clipped to -1000..1500.

    Returns:
        inf where the volumes are equal.
    """
    if image.shape != reference.shape or image.ndim != 3:
        raise InputError(f"Expected two volumes of one shape, got {image.shape} and {reference.shape}.")
    a, b = (np.clip(v.astype(np.float64) + X2CT_OFFSET, 0, X2CT_RANGE) for v in (image, reference))
    error = np.square(a - b)
    means = []
    for others in ((1, 2), (0, 2), (0, 1)):
        slices = error.mean(axis=others)
        differing = slices[slices > 0]
        if len(differing):
            means.append(float((10 * np.log10(X2CT_PEAK**2 / differing)).mean()))
    return float(np.mean(means)) if means else float("inf")


def ssim(image: np.ndarray, reference: np.ndarray, window: tuple[float, float]) -> float:
    """Structural similarity with an 11-sample Gaussian along every axis, averaged where it fits entirely.

    Args:
        image, reference: arrays of one shape, at least 11 samples along each axis; 3D for volumes.
        window: (lower, upper) to which both are clipped; its width is the data range.
    """
    image, reference = _pair(image, reference, window)
    return float(_ssim_map(image, reference, tuple(range(image.ndim))).mean(dtype=np.float64))


def slice_ssim(image: np.ndarray, reference: np.ndarray, window: tuple[float, float]) -> float:
    """Mean over the axial slices of their 2D structural similarity, as reported in the papers.

    Args:
        image, reference: (D, H, W), H and W at least 11.
        window: (lower, upper) to which both are clipped; its width is the data range.
    """
    image, reference = _pair(image, reference, window)
    if image.ndim != 3:
        raise InputError(f"Expected volumes (D, H, W), got shape {image.shape}.")
    return float(_ssim_map(image, reference, (1, 2)).mean(dtype=np.float64))


def _pair(
    image: np.ndarray, reference: np.ndarray, window: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    if image.shape != reference.shape:
        raise InputError(f"Expected two arrays of one shape, got {image.shape} and {reference.shape}.")
    if image.size == 0 or not (np.isfinite(image).all() and np.isfinite(reference).all()):
        raise InputError(f"Expected finite voxels, at least one, got NaN, infinity or none ({image.shape}).")
    return to_unit(image, window), to_unit(reference, window)


def _ssim_map(x: np.ndarray, y: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Wang 2004, eq. 13, of arrays in [0, 1], without the border where the Gaussian does not fit."""
    if min(x.shape[axis] for axis in axes) <= 2 * SSIM_RADIUS:
        raise InputError(f"SSIM needs at least {2 * SSIM_RADIUS + 1} samples along an axis, got {x.shape}.")
    c1, c2 = SSIM_K1**2, SSIM_K2**2
    mean_x, mean_y = _blur(x, axes), _blur(y, axes)
    variance_x = _blur(x * x, axes) - mean_x**2
    variance_y = _blur(y * y, axes) - mean_y**2
    covariance = _blur(x * y, axes) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return luminance * (2 * covariance + c2) / (variance_x + variance_y + c2)


def _blur(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    offsets = np.arange(-SSIM_RADIUS, SSIM_RADIUS + 1)
    kernel = np.exp(-0.5 * (offsets / SSIM_SIGMA) ** 2)
    kernel /= kernel.sum()
    inner = [slice(None)] * array.ndim
    for axis in axes:
        array = correlate1d(array, kernel, axis=axis)
        inner[axis] = slice(SSIM_RADIUS, -SSIM_RADIUS)
    return array[tuple(inner)]
