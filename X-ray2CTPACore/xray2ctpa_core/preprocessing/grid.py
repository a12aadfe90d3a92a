"""Changes of a volume's grid: axial order, resampling, cropping, resizing. The affine is changed
accordingly."""

import numpy as np
import SimpleITK as sitk
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation
from scipy import ndimage

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.volume import Volume

#: First and past-the-last voxel along (k, j, i).
Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def to_axial(volume: Volume) -> Volume:
    """The same voxels with axes permuted and flipped, so that i runs most nearly to the left, j to
    posterior, and k to superior. Nothing is resampled."""
    orientation = io_orientation(volume.affine)
    stored = volume.array.transpose(2, 1, 0)
    turned = apply_orientation(stored, orientation)
    affine = volume.affine @ inv_ornt_aff(orientation, stored.shape)
    return Volume(np.ascontiguousarray(turned.transpose(2, 1, 0)), affine)


def isotropic_grid(volume: Volume, spacing_mm: float) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The rectangular grid of cubic voxels that covers ``volume``, along its own axes.

    A sheared volume (gantry tilt) keeps the direction of its k axis; i and j become perpendicular to it.

    Returns:
        (4, 4) affine to LPS mm, and the shape (D, H, W). Both grids have the same middle; if
        ``volume`` is not sheared, the extents differ by at most half a voxel at each side.
    """
    along_i, _, along_k = volume.direction.T
    across = along_i - (along_i @ along_k) * along_k
    across /= np.linalg.norm(across)
    axes = np.stack([across, np.cross(along_k, across), along_k], axis=1)
    size = np.array(volume.array.shape)[::-1]
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in size])).reshape(3, -1)
    in_axes = axes.T @ (volume.affine[:3, :3] @ corners + volume.affine[:3, 3:])
    low, high = in_axes.min(axis=1), in_axes.max(axis=1)
    count = np.maximum(1, np.round((high - low) / spacing_mm)).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing_mm
    affine[:3, 3] = axes @ ((low + high) / 2 - (count - 1) / 2 * spacing_mm)
    i, j, k = (int(n) for n in count)
    return affine, (k, j, i)


def resample_onto(
    volume: Volume, affine: np.ndarray, shape: tuple[int, int, int], outside: float = AIR_HU
) -> Volume:
    """Linear resampling onto another grid, smoothed first along axes that become coarser.

    Args:
        volume: any real dtype.
        affine: (4, 4) of the new grid.
        shape: (D, H, W) of the new grid.
        outside: value of voxels whose centre lies outside ``volume``.

    Returns:
        float32 on the new grid.
    """
    to_index = np.linalg.inv(volume.affine) @ affine
    coarser = np.linalg.norm(to_index[:3, :3], axis=1)[::-1]
    smoothing = [max(0.0, ratio - 1) / 2 for ratio in coarser]
    source = volume.array.astype(np.float32, copy=False)
    if any(smoothing):
        source = ndimage.gaussian_filter(source, smoothing, mode="nearest")
    transform = sitk.AffineTransform(3)
    transform.SetMatrix(to_index[:3, :3].ravel().tolist())
    transform.SetTranslation(to_index[:3, 3].tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in reversed(shape)])
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(outside)
    resampled = resampler.Execute(sitk.GetImageFromArray(source))
    return Volume(sitk.GetArrayFromImage(resampled), affine)


def cropped(volume: Volume, box: Box) -> Volume:
    """The voxels inside ``box``, at their place in the patient."""
    first = np.array([start for start, _ in reversed(box)])
    affine = volume.affine.copy()
    affine[:3, 3] += volume.affine[:3, :3] @ first
    array = volume.array[tuple(slice(*edges) for edges in box)]
    return Volume(np.ascontiguousarray(array), affine)


def resized(volume: Volume, shape: tuple[int, int, int]) -> Volume:
    """float32 on a grid of ``shape`` (D, H, W) with the same outer edges."""
    return resample_onto(volume, resized_affine(volume, shape), shape)


def resized_affine(volume: Volume, shape: tuple[int, int, int]) -> np.ndarray:
    """(4, 4) of a grid of ``shape`` (D, H, W) with the outer edges of ``volume``."""
    scale = np.array(volume.array.shape)[::-1] / np.array(shape)[::-1]
    within = np.diag([*scale, 1.0])
    within[:3, 3] = (scale - 1) / 2
    return volume.affine @ within


def alternate_slices(volume: Volume, count: int) -> tuple[Volume, ...]:
    """``count`` volumes of every ``count``-th slice: volume n holds slices n, n + count, ...

    X-ray2CTPA, section 3.2, makes two volumes of 64 slices from one of 128.
    """
    every = volume.affine.copy()
    every[:3, 2] *= count
    parts = []
    for first in range(count):
        affine = every.copy()
        affine[:3, 3] += first * volume.affine[:3, 2]
        parts.append(Volume(np.ascontiguousarray(volume.array[first::count]), affine))
    return tuple(parts)
