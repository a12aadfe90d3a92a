"""Fréchet distance of two sets of features (FID, FVD), with a jackknife interval over patients."""

from collections.abc import Sequence

import numpy as np

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.intervals import Interval, t_quantile, without_interval


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982; FID: Heusel et al. 2017, eq. 6; FVD:
    Unterthiner et al. 2018). With S1 = A^T A and S2 = B^T B the trace of the root is the sum of the singular
    values of A B^T: exact also where there are fewer rows than features and the matrices are singular, where
    `scipy.linalg.sqrtm` of the product (as in `monai.metrics.FIDMetric`) is slow and may not exist.

    The estimate is biased upwards, more so for fewer rows: compare only values from equal numbers of rows.

    Args:
        first, second: (N, F) and (M, F) finite, one row for each image or clip; at least 2 rows each.

    Returns:
        At least 0, in squared units of the features.

    Raises:
        InputError: other shapes, NaN or infinity.
    """
    first, second = _checked(first), _checked(second)
    if first.shape[1] != second.shape[1]:
        raise InputError(f"Expected features of one length, got {first.shape[1]} and {second.shape[1]}.")
    shift = np.square(first.mean(axis=0) - second.mean(axis=0)).sum()
    a, b = _root(first), _root(second)
    overlap = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(max(0.0, shift + np.square(a).sum() + np.square(b).sum() - 2 * overlap))


def frechet_interval(
    first: np.ndarray,
    second: np.ndarray,
    first_patients: Sequence[str],
    second_patients: Sequence[str],
    level: float = 0.95,
) -> Interval:
    """Fréchet distance with the t interval of the delete-one-patient jackknife (Efron and Stein 1981).

    A patient is left out of both sets at once with all its rows, so that pairs are kept. The bootstrap is not
    suitable: patients drawn twice lower the rank of the covariances, and every resampled distance lies far
    above the estimate. The interval covers the variation between samples of as many patients, not the
    estimate's bias (see ``frechet_distance``).

    Args:
        first, second: (N, F) and (M, F).
        first_patients, second_patients: patient of each row, N and M names; at least 3 patients.
        level: confidence, between 0 and 1.
    """
    estimate = frechet_distance(first, second)
    first_names, second_names = np.asarray(first_patients), np.asarray(second_patients)
    if len(first_names) != len(first) or len(second_names) != len(second):
        raise InputError("Expected the name of a patient for each row of features.")
    names = sorted({*first_names.tolist(), *second_names.tolist()})
    if len(names) < 3:
        raise InputError(f"The interval of a Fréchet distance needs at least 3 patients, got {len(names)}.")
    left_out = np.array(
        [frechet_distance(first[first_names != n], second[second_names != n]) for n in names],
        dtype=np.float64,
    )
    error = np.sqrt((len(names) - 1) * np.square(left_out - left_out.mean()).mean())
    reach = float(t_quantile(level, len(names) - 1) * error)
    if error == 0:
        return without_interval(estimate)
    return Interval(estimate, max(0.0, estimate - reach), estimate + reach)


def _root(features: np.ndarray) -> np.ndarray:
    """A with A^T A the (unbiased) covariance of the rows, with the smallest sufficient number of rows."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _checked(features: np.ndarray) -> np.ndarray:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or features.shape[1] == 0 or not np.isfinite(features).all():
        raise InputError(f"Expected finite features (N, F) of at least 2 rows, got shape {features.shape}.")
    return features
