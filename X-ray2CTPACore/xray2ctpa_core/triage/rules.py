"""Scores and cut-offs, as functions of a patient's items."""

from collections.abc import Collection
from dataclasses import dataclass

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.triage.criteria import CONTRADICTIONS, NOT_LOW, PERC, PERC_AGE, WELLS, Criterion

#: Largest Wells score of the tier "PE unlikely" (two tiers).
WELLS_UNLIKELY = 4.0
#: D-dimer in ng/mL of one unit on a laboratory's report; 1 FEU is 2 DDU.
FEU_PER_UNIT = {
    "ng/mL FEU": 1.0,
    "ug/L FEU": 1.0,
    "mg/L FEU": 1000.0,
    "ug/mL FEU": 1000.0,
    "ng/mL DDU": 2.0,
    "mg/L DDU": 2000.0,
}
#: ng/mL FEU: the fixed cut-off, and those of YEARS without and with an item.
D_DIMER_FIXED, YEARS_NONE, YEARS_ANY = 500.0, 1000.0, 500.0
AGE_FROM, AGE_FACTOR = 50, 10.0


@dataclass(frozen=True)
class Tier:
    """A class of pre-test probability.

    Attributes:
        name: "unlikely" or "likely".
        pe: share of patients in it who have PE, 0..1.
    """

    name: str
    pe: float


UNLIKELY, LIKELY = Tier("unlikely", 0.121), Tier("likely", 0.37)


def wells_score(items: Collection[str]) -> float:
    """Points of the Wells score, 0 to 12.5; ``items`` are names of WELLS."""
    _require_known(items, WELLS)
    return sum(criterion.points for criterion in WELLS if criterion.name in items)


def wells_tier(score: float) -> Tier:
    """UNLIKELY up to WELLS_UNLIKELY points, else LIKELY."""
    return UNLIKELY if score <= WELLS_UNLIKELY else LIKELY


def d_dimer_feu(value: float, unit: str) -> float:
    """D-dimer in ng/mL FEU from a value in one of FEU_PER_UNIT."""
    if unit not in FEU_PER_UNIT or value < 0:
        raise InputError(
            f"Expected a D-dimer of at least 0 in one of {', '.join(FEU_PER_UNIT)}, got {value} {unit}.",
            "Read the unit off the laboratory's report: FEU or DDU.",
        )
    return value * FEU_PER_UNIT[unit]


def age_adjusted_cutoff(age: int | None) -> float:
    """ng/mL FEU from which a D-dimer counts as raised: 10 a year above 50 years, else (or if unknown) 500."""
    return D_DIMER_FIXED if age is None or age <= AGE_FROM else AGE_FACTOR * age


def years_items(items: Collection[str]) -> int:
    """Number of YEARS' three items that a patient has; ``items`` are names of WELLS."""
    _require_known(items, WELLS)
    return sum(criterion.years and criterion.name in items for criterion in WELLS)


def years_excludes(items: Collection[str], d_dimer: float) -> bool:
    """Whether YEARS excludes PE at a D-dimer in ng/mL FEU."""
    return d_dimer < (YEARS_ANY if years_items(items) else YEARS_NONE)


def perc_met(items: Collection[str]) -> bool:
    """Whether all eight items of PERC hold."""
    _require_known(items, PERC)
    return len(set(items)) == len(PERC)


def perc_contradictions(perc: Collection[str], wells: Collection[str], age: int | None) -> tuple[str, ...]:
    """Texts of entries that contradict PERC: items of WELLS, and the age in years (None if unknown)."""
    _require_known(perc, PERC)
    _require_known(wells, WELLS)
    against = {NOT_LOW, *(item for name, item in CONTRADICTIONS.items() if name in perc)}
    texts = [criterion.text for criterion in WELLS if criterion.name in against & set(wells)]
    if age is not None and age >= PERC_AGE and "under_50" in perc:
        texts.append(f"Age {age}")
    return tuple(texts)


def _require_known(items: Collection[str], criteria: tuple[Criterion, ...]) -> None:
    unknown = set(items) - {criterion.name for criterion in criteria}
    if unknown:
        names = ", ".join(criterion.name for criterion in criteria)
        raise InputError(f"Expected items among {names}, got {', '.join(sorted(unknown))}.")
