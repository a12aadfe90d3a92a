"""Assignment of cases to training, validation and test: the data's own split, or stratified folds."""

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from xray2ctpa_core.errors import ConfigError, InputError

TRAIN, VALIDATION, TEST = "train", "validation", "test"
#: Names that data sets use for their splits.
_NAMES = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "test": TEST,
    "testing": TEST,
}
#: Largest number of cases that an error names.
_NAMED_CASES = 5


class Splittable(Protocol):
    """A case that can be assigned to a split."""

    @property
    def patient(self) -> str: ...
    @property
    def label(self) -> int | None: ...
    @property
    def split(self) -> str: ...
    @property
    def where(self) -> str: ...


T = TypeVar("T", bound=Splittable)


def canonical_split(name: str) -> str:
    """TRAIN, VALIDATION or TEST for any name that data sets use for it; another name as it is."""
    return _NAMES.get(name.lower(), name)


def by_split(cases: Sequence[T], needed: Sequence[str] = (TRAIN,)) -> dict[str, list[T]]:
    """The cases of "train", "validation" and "test", by their ``split``.

    Raises:
        InputError: an unknown split (with file and row), a patient in two splits, or a ``needed`` split
            without cases.
    """
    parts: dict[str, list[T]] = {TRAIN: [], VALIDATION: [], TEST: []}
    first: dict[str, T] = {}
    for case in cases:
        name = _NAMES.get(case.split.lower())
        if name is None:
            raise InputError(
                f"Expected a split out of {', '.join(_NAMES)}, got {case.split!r} in {case.where}.",
                "Give every study a split, or pass folds=6 for cross-validation.",
            )
        other = first.setdefault(case.patient, case)
        if other.split != case.split:
            raise InputError(
                f"Expected each patient in one split, got {case.patient} in {other.split} ({other.where}) "
                f"and in {case.split} ({case.where}).",
                "Move all studies of a patient to one split.",
            )
        parts[name].append(case)
    _check_filled(parts, needed, cases)
    return parts


def by_fold(cases: Sequence[T], folds: int, fold: int, seed: int) -> dict[str, list[T]]:
    """Cross-validation over patients, stratified by label: fold ``fold`` tests, the next one validates.

    A patient with any positive study counts as positive. Where every patient has studies of both kinds, as
    people of whom virtual patients are drawn, folds are stratified by study. The folds depend only on the
    patients' names and labels and the seed, not on the order of the cases.

    Args:
        cases: all with a label.
        folds: at least 3 (6 in the papers).
        fold: 0 <= fold < folds.
        seed: of the shuffle.

    Raises:
        ConfigError: folds or fold out of range.
        InputError: a case without label, or a class with fewer patients than folds; with file and row.
    """
    if folds < 3 or not 0 <= fold < folds:
        raise ConfigError(f"Expected folds >= 3 and 0 <= fold < folds, got {folds} and {fold}.")
    label_of: dict[str, int] = {}
    kinds: set[tuple[str, int]] = set()
    for case in cases:
        if case.label is None:
            raise InputError(f"Expected a label of 0 or 1, got none in {case.where}.")
        label_of[case.patient] = max(label_of.get(case.patient, 0), case.label)
        kinds.add((case.patient, case.label))
    patients = sorted(label_of)
    labels = np.array([label_of[patient] for patient in patients])
    if len(patients) >= folds and all((patient, 0) in kinds for patient in patients) and labels.all():
        return _by_role(cases, _folds_of_studies(cases, folds, seed), folds, fold)
    for label in (0, 1):
        if (count := int((labels == label).sum())) < folds:
            found = [case.where for case in cases if label_of[case.patient] == label]
            raise InputError(
                f"Expected at least {folds} patients with label {label}, one a fold, got {count} "
                f"({'; '.join(found[:_NAMED_CASES]) or cases[0].where.split(',')[0]}).",
                "Take fewer folds.",
            )
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    fold_of = {
        patients[place]: number
        for number, (_, places) in enumerate(splitter.split(patients, labels))
        for place in places
    }
    return _by_role(cases, fold_of, folds, fold)


def _folds_of_studies(cases: Sequence[Splittable], folds: int, seed: int) -> dict[str, int]:
    """The fold of each patient, stratified by studies."""
    studies = sorted((case.patient, int(case.label or 0)) for case in cases)
    names = [patient for patient, _ in studies]
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    split = splitter.split(names, [label for _, label in studies], names)
    return {names[place]: number for number, (_, places) in enumerate(split) for place in places}


def _by_role(cases: Sequence[T], fold_of: dict[str, int], folds: int, fold: int) -> dict[str, list[T]]:
    """The cases by what their patient's fold is for."""
    role = {fold: TEST, (fold + 1) % folds: VALIDATION}
    parts: dict[str, list[T]] = {TRAIN: [], VALIDATION: [], TEST: []}
    for case in cases:
        parts[role.get(fold_of[case.patient], TRAIN)].append(case)
    return parts


def training_cases(cases: Sequence[T], folds: int, fold: int, seed: int) -> list[T]:
    """Training cases of a generator: those of the fold; without folds the training split, or all cases of a
    data set without splits. Raises the errors of `by_fold` and `by_split`."""
    if folds:
        return by_fold(cases, folds, fold, seed)[TRAIN]
    if not any(case.split for case in cases):
        return list(cases)
    return by_split(cases)[TRAIN]


def _check_filled(parts: dict[str, list[T]], needed: Sequence[str], cases: Sequence[T]) -> None:
    for name in needed:
        if not parts[name]:
            place = cases[0].where.split(",")[0] if cases else "the table"
            raise InputError(f"Expected cases of the split {name} in {place}, got none.")
