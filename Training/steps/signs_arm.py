"""The arm of a reader who knows the radiographic signs of a virtual patient exactly, which has the best
possible AUROC from a radiograph in this cohort.

Signs are drawn independently at published rates (simulation/signs.py), so their log-odds are the best score.
"""

from pathlib import Path

import numpy as np
from scipy.special import logit

from xray2ctpa_core.data.index import read_index
from xray2ctpa_core.data.latent_cases import LatentCase, read_latent_cases
from xray2ctpa_core.data.slice_features import read_feature_cases
from xray2ctpa_core.data.splits import TEST, VALIDATION, by_fold, by_split
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation.build import read_record
from xray2ctpa_core.training.arms import prediction_rows, write_arm, write_predictions
from xray2ctpa_core.training.settings.tables import SignsArmSettings


def run(config: SignsArmSettings, out: Path) -> None:
    """Writes predictions.csv: the log-odds of PE given the signs, and arm.json."""
    if config.features:
        cases = read_feature_cases(Path(config.features))
    else:
        cases = read_latent_cases(Path(config.latents), labelled=True)
    record_of = {study.id: study.findings for study in read_index(Path(config.studies), check_files=False)}
    rows = []
    for fold in range(config.folds or 1):
        if config.folds:
            parts = by_fold(cases, config.folds, fold, config.fold_seed)
        else:
            parts = by_split(cases, (VALIDATION, TEST))
        for split in (VALIDATION, TEST):
            scores = logit(np.array([_probability(record_of, case) for case in parts[split]]))
            rows += prediction_rows(parts[split], scores, fold, split)
    write_predictions(out, rows)
    write_arm(out, "signs", "classifier", config.dataset)


def _probability(record_of: dict[str, Path | None], case: LatentCase) -> float:
    """Of PE, given the signs that the case's record names."""
    record = record_of.get(case.id)
    if record is None:
        raise InputError(
            f"Expected a record of the signs of {case.where}, got none.",
            "Name the index of virtual patients by studies=...; its column findings names the records.",
        )
    return float(read_record(record.parent)["sign_probability"])
