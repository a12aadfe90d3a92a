"""Numbers that compare one generated volume with the patient's own CTPA and film."""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.evaluation.patients import CohortPatient
from xray2ctpa_core.metrics.dice import dice
from xray2ctpa_core.metrics.features import SLICE_STEP, FeatureNetwork
from xray2ctpa_core.metrics.image import mae, psnr, slice_ssim, ssim, to_unit
from xray2ctpa_core.metrics.perceptual import LPIPSDistance, PerceptualDistance
from xray2ctpa_core.metrics.projection import (
    blood_pool_mask,
    frontal_mask,
    frontal_projection,
    lung_mask,
    normalised_cross_correlation,
)
from xray2ctpa_core.preprocessing.frame import equalise

#: Metric of two sets of volumes -> key of the features in a row.
FEATURES = {"fvd": "features_fvd", "fid": "features_fid"}


class ImageMeter:
    """Compares volumes with one patient's truth; what concerns the truth alone is computed once.

    Args:
        patient: with CTPA and film.
        window: HU (lower, upper) of PSNR, SSIM and the perceptual distances.
        perceptual: of axial slices in [-1, 1].
        lpips: the same by LPIPS, where its weights are available.
        networks: by metric (fvd, fid), for distances between sets of volumes.
    """

    def __init__(
        self,
        patient: CohortPatient,
        window: tuple[float, float],
        perceptual: PerceptualDistance,
        lpips: LPIPSDistance | None = None,
        networks: Mapping[str, FeatureNetwork] | None = None,
    ) -> None:
        self._networks = networks or {}
        self._patient = patient
        self._window = window
        self._distances = {"perceptual": perceptual} | ({} if lpips is None else {"lpips": lpips})

    def measure(self, hu: np.ndarray) -> dict[str, float]:
        """All numbers of one volume (D, H, W) in HU on the patient's grid.

        Returns:
            psnr, psnr_paper (window PAPER_HU_WINDOW), ssim (3D), slice_ssim, mae (HU), perceptual, lpips
            where available, lung_dice and heart_dice of frontal masks by one rule for both volumes (NaN
            where the truth shows none), film_correlation.
        """
        truth = self._patient.hu
        values = {
            "psnr": psnr(hu, truth, self._window),
            "psnr_paper": psnr(hu, truth, PAPER_HU_WINDOW),
            "ssim": ssim(hu, truth, self._window),
            "slice_ssim": slice_ssim(hu, truth, self._window),
            "mae": mae(hu, truth, self._window),
        }
        slices = network_slices(hu, self._window)
        for name, distance in self._distances.items():
            with torch.no_grad():
                values[name] = float(distance(slices, self._truth_slices).mean())
        for name, mask, reference in zip(
            ("lung_dice", "heart_dice"), frontal_masks(hu), self._truth_masks, strict=True
        ):
            values[name] = dice(mask, reference)
        return values | {"film_correlation": self.film_correlation(hu)}

    def features(self, hu: np.ndarray) -> dict[str, list[list[float]]]:
        """What each network sees in (D, H, W) HU: ``feature_rows`` by the metric's FEATURES key."""
        return {FEATURES[name]: feature_rows(net, hu, self._window) for name, net in self._networks.items()}

    def film_correlation(self, hu: np.ndarray) -> float:
        """Correlation of the volume's frontal projection with the film's frame, greys of both equalised.

        The projection is by parallel rays and the film by diverging ones with scatter and a grey curve, so
        the patient's own CTPA stays below 1: its number is the ceiling.
        """
        return normalised_cross_correlation(frontal_image(hu), self._film)

    @cached_property
    def _truth_masks(self) -> tuple[np.ndarray, np.ndarray]:
        return frontal_masks(self._patient.hu)

    @cached_property
    def _truth_slices(self) -> torch.Tensor:
        return network_slices(self._patient.hu, self._window)

    @cached_property
    def _film(self) -> np.ndarray:
        return self._patient.frame_image(self._patient.hu.shape[2])


def network_slices(hu: np.ndarray, window: tuple[float, float]) -> torch.Tensor:
    """Every SLICE_STEP-th slice of (D, H, W) HU as perceptual distances read it: (N, 1, H, W) in [-1, 1]."""
    unit = to_unit(hu[SLICE_STEP // 2 :: SLICE_STEP], window)
    return torch.from_numpy(unit * 2 - 1)[:, None]


def feature_rows(network: FeatureNetwork, hu: np.ndarray, window: tuple[float, float]) -> list[list[float]]:
    """Features of (D, H, W) HU, to the six digits that a store's text should hold of a float32."""
    features = network(torch.from_numpy(to_unit(hu, window) * 2 - 1))
    return [[float(f"{value:.6g}") for value in row] for row in features.tolist()]


def frontal_masks(hu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lungs and contrast-filled heart from the front, (D, W) bool, by the rules of metrics.projection."""
    lungs = lung_mask(hu)
    return frontal_mask(lungs), frontal_mask(blood_pool_mask(hu, lungs))


def frontal_image(hu: np.ndarray) -> np.ndarray:
    """(W, W) float32 in [0, 1]: frontal projection on a square grid, greys equalised as a film's frame."""
    projection = frontal_projection(hu)
    stretch = projection.shape[1] / projection.shape[0]
    square = ndimage.zoom(projection, (stretch, 1), order=1, mode="nearest", grid_mode=True)
    return equalise(square, np.ones(square.shape, dtype=bool))
