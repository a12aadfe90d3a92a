"""A real pair of radiograph and CTPA in 8-bit grey, on which our volume is compared with a published
model's."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.evaluation.protocol import EvaluatedPipeline, to_array
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.metrics.image import psnr, slice_ssim
from xray2ctpa_core.metrics.projection import lung_mask

GREY = (0.0, 255.0)
#: Window of the released X-ray2CTPA scripts for the CTPA, HU; the pair has none.
RELEASE_WINDOW = (-200.0, 500.0)
#: Windows in HU among which the best is chosen for each HU volume.
LOWER_BOUNDS = np.arange(-1000.0, 1.0, 50.0)
UPPER_BOUNDS = np.arange(150.0, 1501.0, 50.0)
#: Greys that are tried for the published volume; black is kept.
PUBLISHED_LOWER, PUBLISHED_UPPER = np.arange(0.0, 61.0, 5.0), np.arange(195.0, 316.0, 5.0)
#: Grey below which a voxel of the pair is air or lung.
AIR_GREY = 10
#: Shares of the lungs' voxels before the ends of their span, which exclude the trachea and thin recesses.
LUNG_SHARES = (0.02, 0.98)
#: Step between the voxels that the search of a window uses, in each slice direction.
SEARCH_STEP = 4
NOTE = (
    "The pair's volumes are 8-bit grey of an unstated window. HU volumes were resampled linearly to their "
    "grid, placed either with both grids' edges together (as is) or scaled and shifted along each axis so "
    "that the 2 % and 98 % points of their lungs' voxels meet those of the published volume (lungs; the "
    "ground truth is not used for it). Grey: the released scripts' window of -200..500 HU, and the window "
    "that gives the best PSNR against the ground truth, which flatters the volume by the two numbers fitted; "
    "the published volume's grey was fitted in the same way beside its own. One patient: no interval."
)


def evaluate_pair(
    folder: Path,
    pipelines: list[tuple[str, EvaluatedPipeline]],
    mean_volume: np.ndarray | None = None,
    steps: int = 0,
    samples: int = 8,
    seed: int = 0,
) -> dict[str, Any]:
    """Measures each pipeline's volumes on one real pair.

    Args:
        folder: holds cxr.png, and ct.npz with ``ground_truth`` and ``published_generated``: uint8 (slices
            from the neck down, antero-posterior, right to left).
        pipelines: (label, pipeline); of each, one sample and the mean of ``samples`` are measured.
        mean_volume: (D, H, W) HU, the mean training volume.
        steps: sampling steps, 0 for the bundle's.
        seed: of the sampling.

    Returns:
        JSON-ready: pair, note, and volumes (volume, placed, grey, psnr, slice_ssim).

    Raises:
        InputError: the folder holds no such pair, or its radiograph cannot be read.
    """
    truth, published = _read_pair(folder)
    volumes = [_entry("published by X-ray2CTPA's authors", "same grid", "its own grey", published, truth)]
    fitted, grey = _best_grey(published.astype(np.float32), truth, PUBLISHED_LOWER, PUBLISHED_UPPER)
    volumes.append(
        _entry("published by X-ray2CTPA's authors", "same grid", f"{grey} of its own (fitted)", fitted, truth)
    )
    hu_volumes = {} if mean_volume is None else {"mean training volume": mean_volume}
    radiograph = read_radiograph(folder / "cxr.png")
    for name, pipeline in pipelines:
        result = pipeline(
            radiograph,
            num_inference_steps=steps or None,
            num_samples=samples,
            seed=seed,
            output_samples=True,
        )
        if result.samples is None:
            raise InputError("Expected the samples of the pipeline with output_samples=True, got none.")
        made = to_array(result.samples)
        hu_volumes[f"{name}: one sample"] = made[0]
        hu_volumes[f"{name}: mean of {samples} samples"] = made.mean(axis=0)
    span = _lung_span(np.where(published < AIR_GREY, -1000.0, 0.0)[::-1])
    for name, hu in hu_volumes.items():
        own = _lung_span(hu)
        for placed, target in (("as is", None), ("lungs", span)):
            if target is None or own is not None:
                moved = _to_grid(hu, truth.shape, own, target)[::-1]
                volumes += _graded(name, placed, moved, truth)
    return {"pair": folder.name, "note": NOTE, "volumes": volumes}


def _read_pair(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    path = Path(folder) / "ct.npz"
    try:
        with np.load(path, allow_pickle=False) as arrays:
            truth, published = arrays["ground_truth"], arrays["published_generated"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"Expected ct.npz with ground_truth and published_generated in {folder}: {error}."
        ) from error
    if truth.dtype != np.uint8 or truth.ndim != 3 or truth.shape != published.shape:
        raise InputError(
            f"Expected two uint8 volumes of one shape in {path}, got {truth.dtype} {truth.shape}."
        )
    return truth, published


def _graded(name: str, placed: str, hu: np.ndarray, truth: np.ndarray) -> list[dict[str, Any]]:
    best, grey = _best_grey(hu, truth, LOWER_BOUNDS, UPPER_BOUNDS)
    lower, upper = RELEASE_WINDOW
    return [
        _entry(name, placed, f"{lower:.0f}..{upper:.0f} HU", _to_grey(hu, lower, upper), truth),
        _entry(name, placed, f"{grey} HU (fitted)", best, truth),
    ]


def _entry(name: str, placed: str, grey: str, volume: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    numbers = {"psnr": psnr(volume, truth, GREY), "slice_ssim": slice_ssim(volume, truth, GREY)}
    return {"volume": name, "placed": placed, "grey": grey} | numbers


def _best_grey(
    volume: np.ndarray, truth: np.ndarray, lowers: np.ndarray, uppers: np.ndarray
) -> tuple[np.ndarray, str]:
    """The grey volume of the window with the least squared error against ``truth``, and the window's text."""
    part = (slice(None), slice(None, None, SEARCH_STEP), slice(None, None, SEARCH_STEP))
    few, few_truth = volume[part], truth[part].astype(np.float32)
    errors = {
        (lower, upper): float(np.square(_to_grey(few, lower, upper) - few_truth).mean())
        for lower in lowers.tolist()
        for upper in uppers.tolist()
    }
    lower, upper = min(errors, key=lambda window: errors[window])
    return _to_grey(volume, lower, upper), f"{lower:.0f}..{upper:.0f}"


def _to_grey(values: np.ndarray, lower: float, upper: float) -> np.ndarray:
    """Greys as float32 integers 0..255."""
    return np.rint((np.clip(values, lower, upper) - lower) * np.float32(255 / (upper - lower)))


def _lung_span(hu: np.ndarray) -> np.ndarray | None:
    """(3, 2) LUNG_SHARES of the lungs' voxels along (D, H, W), in shares of the extent, k = 0 inferior."""
    mask = lung_mask(hu)
    if not mask.any():
        return None
    spans = []
    for axis in range(3):
        counts = mask.sum(axis=tuple(other for other in range(3) if other != axis))
        centres = (np.arange(counts.size) + 0.5) / counts.size
        spans.append(np.interp(LUNG_SHARES, np.cumsum(counts) / counts.sum(), centres))
    return np.array(spans)


def _to_grid(
    hu: np.ndarray, shape: tuple[int, ...], own: np.ndarray | None, target: np.ndarray | None
) -> np.ndarray:
    """Linear resampling to ``shape``; with spans, so that ``own`` is moved to ``target``."""
    matrix, offset = [], []
    for axis in range(3):
        scale, shift = 1.0, 0.0
        if own is not None and target is not None:
            scale = (own[axis, 1] - own[axis, 0]) / (target[axis, 1] - target[axis, 0])
            shift = own[axis, 0] - scale * target[axis, 0]
        # output centre (o + 0.5) / N -> input share -> input index
        matrix.append(scale * hu.shape[axis] / shape[axis])
        offset.append((scale * 0.5 / shape[axis] + shift) * hu.shape[axis] - 0.5)
    return ndimage.affine_transform(
        hu.astype(np.float32), np.array(matrix), np.array(offset), tuple(shape), order=1, mode="nearest"
    )
