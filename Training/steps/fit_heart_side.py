"""Fits on which side of a radiograph the heart lies, for the input gate's warning of mirrored radiographs.

Every radiograph counts as it is and mirrored. Prints the weights for `preprocessing/heart_side.py`, and how
often radiographs as they are and mirrored ones are called mirrored at the gate's threshold: cross-validated
by patient (the name up to the first underscore) on the folders to fit, and on the folders to measure.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from xray2ctpa_core.cli.stage import write_report
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.radiograph import radiographs_below, read_radiograph
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.pipelines.converted_bundle import gate_locator
from xray2ctpa_core.pipelines.loading import resolve_bundle
from xray2ctpa_core.preprocessing.heart_side import asymmetry
from xray2ctpa_core.preprocessing.sides import MIRRORED_FROM
from xray2ctpa_core.training.settings.gate import HeartSideSettings

FOLDS = 5


def run(config: HeartSideSettings, out: Path) -> None:
    """Fits, prints, and writes the weights to ``out``/weights.txt."""
    locator = gate_locator(resolve_bundle(config.bundle) / "lung_locator")
    features, patients = described(locator, config.fit)
    if len(set(patients)) < FOLDS:
        raise InputError(f"Expected radiographs of at least {FOLDS} patients, got {len(set(patients))}.")
    logits = np.empty(len(features))
    for train, test in GroupKFold(FOLDS).split(features, groups=patients):
        logits[test] = features[test] @ weights_of(features[train], config.ridge)
    weights = weights_of(features, config.ridge)
    report("cross-validated", logits)
    if config.measure:
        report("measured", described(locator, config.measure)[0] @ weights)
    rows = [", ".join(f"{w:.2f}" for w in row) for row in weights.reshape(-1, 8)]
    text = "".join(f"{row},\n" for row in rows)
    write_report(out / "weights.txt", text)


def described(locator: LungLocator, folders: tuple[str, ...]) -> tuple[np.ndarray, list[str]]:
    """(N, features) of every radiograph with lungs, and its patient's name."""
    rows, patients = [], []
    for path in (path for folder in folders for path in radiographs_below(Path(folder))):
        masks, image = locator_view(locator, read_radiograph(path).pixels)
        if masks.any():
            rows.append(asymmetry(masks, image))
            patients.append(path.name.split("_")[0])
    return np.array(rows), patients


def locator_view(locator: LungLocator, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Masks (2, size, size) and the letterboxed image (size, size) that they lie on."""
    from xray2ctpa_core.models.framing.lung_location import locate_lungs_in
    from xray2ctpa_core.preprocessing.letterbox import letterbox

    masks = locate_lungs_in(locator, [pixels])[0].mask
    return masks, letterbox(pixels, masks.shape[-1])[0]


def weights_of(features: np.ndarray, ridge: float) -> np.ndarray:
    """Weights of a logistic regression without intercept: mirroring changes the features' sign alone."""
    both, labels = np.vstack([features, -features]), np.repeat([0, 1], len(features))
    return LogisticRegression(C=ridge, fit_intercept=False, max_iter=3000).fit(both, labels).coef_[0]


def report(name: str, logits: np.ndarray) -> None:
    """Prints how often radiographs as they are, and mirrored, pass the gate's threshold."""
    threshold = np.log(MIRRORED_FROM / (1 - MIRRORED_FROM))
    false, true = (logits > threshold).sum(), (-logits > threshold).sum()
    sys.stdout.write(
        f"{name}: of {len(logits)} radiographs {false} ({false / len(logits):.1%}) are called mirrored as "
        f"they are, {true} ({true / len(logits):.1%}) when mirrored; "
        f"the side is right in {(logits < 0).mean():.1%}.\n"
    )
