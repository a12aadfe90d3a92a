"""Pairs of a CT and a radiograph of one patient, by the rules; a fixed split by patient."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from xray2ctpa_core.data.open_pairs.rules import (
    UNDATED_COLLECTIONS,
    Rules,
    ct_preference,
    days_apart,
    is_angiography,
    is_axial_chest,
    is_ct,
    is_frontal_chest,
    is_radiograph,
)
from xray2ctpa_core.data.open_pairs.series import Series, folder_name
from xray2ctpa_core.data.splits import TEST, TRAIN, VALIDATION

#: Of a hundred patients, those of test and of validation.
TEST_SHARE, VALIDATION_SHARE = 20, 10


@dataclass(frozen=True)
class Pair:
    """One CT study with the radiograph nearest to it.

    Attributes:
        ct, radiograph: their series.
        others: further frontal radiographs of the patient within the days, nearest first: taken in turn where
            the gate refuses one.
        days: from the radiograph to the CT; None where the collection's dates say nothing.
        angiography: whether the CT is a pulmonary angiography by its description.
        split: "train", "validation" or "test", by patient.
    """

    ct: Series
    radiograph: Series
    others: tuple[Series, ...]
    days: int | None
    angiography: bool
    split: str

    @property
    def id(self) -> str:
        """Names the pair's folder: collection, patient, and the end of the CT's study."""
        digest = hashlib.sha256(self.ct.study.encode()).hexdigest()[:8]
        return f"{self.ct.collection}-{folder_name(self.ct.patient)}-{digest}"


@dataclass(frozen=True)
class Count:
    """What one collection holds.

    Attributes:
        patients, patients_within_3: with a CT and a radiograph within a day, within three.
        angiography_patients, angiography_patients_within_3: of them those with an angiography.
        angiography_pairs, angiography_pairs_within_3: studies of angiography times studies of radiographs.
        angiography_cts, angiography_cts_within_3: studies of angiography.
    """

    patients: int = 0
    patients_within_3: int = 0
    angiography_patients: int = 0
    angiography_patients_within_3: int = 0
    angiography_pairs: int = 0
    angiography_pairs_within_3: int = 0
    angiography_cts: int = 0
    angiography_cts_within_3: int = 0


def split_of(patient: str) -> str:
    """The split of a patient, of whatever collection: fixed by the identifier, whoever else is selected."""
    place = int(hashlib.sha256(f"open pairs {patient}".encode()).hexdigest(), 16) % 100
    if place < TEST_SHARE:
        return TEST
    return VALIDATION if place < TEST_SHARE + VALIDATION_SHARE else TRAIN


def select_pairs(series: Iterable[Series], rules: Rules) -> list[Pair]:
    """One pair for each CT study that has a series and a radiograph by the rules, sorted by its
    identifier."""
    pairs = []
    for (collection, _), own in _by_patient(series).items():
        radiographs = [one for one in own if is_frontal_chest(one, rules)]
        studies: dict[str, list[Series]] = defaultdict(list)
        for one in own:
            if is_axial_chest(one, rules) and (is_angiography(one) or not rules.angiography):
                studies[one.study].append(one)
        for stacks in studies.values():
            best = min(stacks, key=ct_preference)
            near = sorted(
                (abs(days), radiograph.date, radiograph.uid, radiograph)
                for radiograph in radiographs
                if (days := days_apart(best, radiograph)) is not None and abs(days) <= rules.days
            )
            if near:
                nearest = [radiograph for *_, radiograph in near]
                days = None if collection in UNDATED_COLLECTIONS else days_apart(best, nearest[0])
                pairs.append(
                    Pair(
                        best,
                        nearest[0],
                        tuple(nearest[1:]),
                        days,
                        is_angiography(best),
                        split_of(best.patient),
                    )
                )
    return sorted(pairs, key=lambda pair: pair.id)


def count_patients(series: Sequence[Series], rules: Rules) -> dict[str, Count]:
    """What each collection holds: every CT of enough images and every radiograph counts, whatever its
    words."""
    counts: dict[str, Count] = {}
    for (collection, _), own in _by_patient(series).items():
        for days, suffix in ((1, ""), (3, "_within_3")):
            near = [
                (ct, radiograph)
                for ct in own
                if is_ct(ct, rules)
                for radiograph in own
                if is_radiograph(radiograph, rules)
                and (apart := days_apart(ct, radiograph)) is not None
                and abs(apart) <= days
            ]
            if not near:
                continue
            angiographies = [(ct, radiograph) for ct, radiograph in near if is_angiography(ct)]
            before = counts.get(collection, Count())
            counts[collection] = replace(
                before,
                **{
                    f"patients{suffix}": getattr(before, f"patients{suffix}") + 1,
                    f"angiography_patients{suffix}": getattr(before, f"angiography_patients{suffix}")
                    + bool(angiographies),
                    f"angiography_pairs{suffix}": getattr(before, f"angiography_pairs{suffix}")
                    + len({(ct.study, radiograph.study) for ct, radiograph in angiographies}),
                    f"angiography_cts{suffix}": getattr(before, f"angiography_cts{suffix}")
                    + len({ct.study for ct, _ in angiographies}),
                },
            )
    return dict(sorted(counts.items(), key=lambda item: -item[1].patients))


def _by_patient(series: Iterable[Series]) -> dict[tuple[str, str], list[Series]]:
    """The series of each patient of each collection; two series of one UID are one."""
    found: dict[tuple[str, str], dict[str, Series]] = defaultdict(dict)
    for one in series:
        found[one.collection, one.patient].setdefault(one.uid, one)
    return {key: list(own.values()) for key, own in found.items()}
