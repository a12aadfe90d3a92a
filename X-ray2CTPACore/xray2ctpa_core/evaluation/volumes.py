"""Comparison of a volume with the patient's own: measures all numbers of VOLUME_COLUMNS."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.evaluation.instruments import Instruments
from xray2ctpa_core.evaluation.store import Row
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.features import SLICE_STEP
from xray2ctpa_core.metrics.image import SSIM_RADIUS, mae, psnr, slice_ssim, ssim, to_unit
from xray2ctpa_core.metrics.projection import (
    blood_pool_mask,
    frontal_mask,
    frontal_projection,
    lung_mask,
    normalised_cross_correlation,
)
from xray2ctpa_core.pipelines.consistency import agreement
from xray2ctpa_core.preprocessing.frame import equalise
from xray2ctpa_core.volume import Volume

#: Smallest blood pool of an enhanced heart in millilitres; less is calcium or bone.
LEAST_BLOOD_ML = 50.0
#: Voxels by which heart and vessels are eroded before HU are measured, to exclude their walls.
WALL_VOXELS = 1


class VolumeMeter:
    """Compares volumes with one patient's own; everything that depends on the own volume only is computed
    once.

    Args:
        truth: the patient's CT, HU, on the grid of the measured volumes.
        window: HU (lower, upper) of PSNR, SSIM, MAE, the perceptual distances and features.
        instruments: of the evaluation.
        image: P -> the (P, P) frame image of the radiograph in [0, 1]; None if there is none.
        file: of the truth, if several arms share it.
        enhanced: whether the truth shows contrast medium; without it there is no blood pool to find.
    """

    def __init__(
        self,
        truth: Volume,
        window: tuple[float, float],
        instruments: Instruments,
        image: Callable[[int], np.ndarray] | None = None,
        file: Path | None = None,
        enhanced: bool = True,
    ) -> None:
        self._enhanced = enhanced
        self._volume, self._truth = truth, truth.array.astype(np.float32)
        self._window, self._instruments, self._image, self._file = window, instruments, image, file
        self._distances = {"perceptual": instruments.perceptual} | (
            {} if instruments.lpips is None else {"lpips": instruments.lpips}
        )

    def measure(self, hu: np.ndarray) -> Row:
        """All numbers and features of one volume (D, H, W) in HU on the truth's grid.

        Returns:
            The columns of VOLUME_COLUMNS except those of several samples. Left out are ssim for fewer slices
            than its window has, lpips without weights, and the radiograph's columns without one. Dice and HU
            are NaN if the truth shows no such organ.
        """
        truth, window = self._truth, self._window
        values: Row = {
            "psnr": psnr(hu, truth, window),
            "psnr_paper": psnr(hu, truth, PAPER_HU_WINDOW),
            "slice_ssim": slice_ssim(hu, truth, window),
            "mae": mae(hu, truth, window),
        }
        if min(truth.shape) > 2 * SSIM_RADIUS:  # a 3D window does not fit into fewer slices
            values["ssim"] = ssim(hu, truth, window)
        slices = network_slices(hu, window)
        for name, distance in self._distances.items():
            with torch.no_grad():
                values[name] = float(distance(slices, self._truth_slices).mean())
        values["projection"] = normalised_cross_correlation(
            frontal_projection(np.clip(hu, *window)), self._truth_projection
        )
        values |= self._overlaps(hu)
        values["chamber_error"] = abs(self._chamber_hu(hu) - self._chamber_hu(truth))
        return values | self.own(hu) | self._instruments.features(hu, window)

    def truth_row(self) -> Row:
        """The row of the patient's own volume: as ``own``, and its features."""
        return self.own(self._truth) | self._instruments.features(self._truth, self._window, self._file)

    def own(self, hu: np.ndarray) -> Row:
        """Numbers without comparison with the truth: HU in the chambers, agreement with the radiograph.

        parallel_correlation is that of the frontal projection by parallel rays, perspective_correlation that
        of the diverging rays of a PA radiograph, with contrast medium cut off; greys of both are equalised.
        """
        values: Row = {"chamber_hu": self._chamber_hu(hu)}
        if self._image is not None:
            width = hu.shape[2]
            x, y, _ = self._volume.spacing
            side = x * width
            image = self._image(width)
            values["parallel_correlation"] = normalised_cross_correlation(frontal_image(hu), image)
            values["perspective_correlation"] = agreement(hu, image, side, y * hu.shape[1] / side)
        return values

    def several(self, samples: np.ndarray) -> Row:
        """Numbers of the mean of (K, D, H, W) HU samples, and of how well their spread predicts its error.

        spread: root mean square over the volume of the samples' standard deviation. spread_over_error: of
        samples that are drawn like the truth, the mean's squared error is (1 + 1/K) times their variance;
        the root of the ratio is 1 for such samples, below 1 for overconfident ones. spread_tracks_error:
        correlation over voxels of the deviation and the mean's absolute error.
        """
        clipped = np.clip(samples, *self._window)
        mean = clipped.mean(axis=0)
        error = np.abs(mean - np.clip(self._truth, *self._window))
        variance = clipped.var(axis=0, ddof=1)
        mean_error = float(np.sqrt(np.square(error).mean()))
        ratio = (
            float(np.sqrt((1 + 1 / len(samples)) * variance.mean()) / mean_error) if mean_error else np.nan
        )
        return self.measure(samples.mean(axis=0)) | {
            "spread": float(np.sqrt(variance.mean())),
            "spread_over_error": ratio,
            "spread_tracks_error": normalised_cross_correlation(np.sqrt(variance), error),
        }

    def _overlaps(self, hu: np.ndarray) -> Row:
        """Dice of lungs and blood pool, in the volume and in frontal projection, by the same rule for both
        volumes."""
        lungs = lung_mask(hu)
        found = {"lung": (lungs, self._lungs), "heart": (blood_pool_mask(hu, lungs), self._blood)}
        values: Row = {}
        for name, (mask, reference) in found.items():
            values[f"{name}_dice"] = dice(frontal_mask(mask), frontal_mask(reference))
            values[f"{name}_dice_3d"] = dice(mask, reference)
        return values

    def _chamber_hu(self, hu: np.ndarray) -> float:
        """Median HU in the contrast-filled chambers of the patient's own CT; NaN if it shows none."""
        return float(np.median(hu[self._chambers])) if self._chambers.any() else float("nan")

    @cached_property
    def _lungs(self) -> np.ndarray:
        return lung_mask(self._truth)

    @cached_property
    def _blood(self) -> np.ndarray:
        mask = blood_pool_mask(self._truth, self._lungs)
        litres = np.count_nonzero(mask) * abs(np.linalg.det(self._volume.affine[:3, :3])) / 1e6
        return mask if self._enhanced and 1000 * litres >= LEAST_BLOOD_ML else np.zeros_like(mask)

    @cached_property
    def _chambers(self) -> np.ndarray:
        return ndimage.binary_erosion(self._blood, iterations=WALL_VOXELS)

    @cached_property
    def _truth_slices(self) -> torch.Tensor:
        return network_slices(self._truth, self._window)

    @cached_property
    def _truth_projection(self) -> np.ndarray:
        return frontal_projection(np.clip(self._truth, *self._window))


def network_slices(hu: np.ndarray, window: tuple[float, float]) -> torch.Tensor:
    """Every SLICE_STEP-th slice of (D, H, W) HU as perceptual distances read it: (N, 1, H, W) in [-1, 1]."""
    unit = to_unit(hu[SLICE_STEP // 2 :: SLICE_STEP], window)
    return torch.from_numpy(unit * 2 - 1)[:, None]


def frontal_image(hu: np.ndarray) -> np.ndarray:
    """(W, W) float32 in [0, 1]: frontal projection by parallel rays on a square grid, greys equalised."""
    projection = frontal_projection(hu)
    stretch = projection.shape[1] / projection.shape[0]
    square = ndimage.zoom(projection, (stretch, 1), order=1, mode="nearest", grid_mode=True)
    return equalise(square, np.ones(square.shape, dtype=bool))
