"""The pathway of Figure 10 of X-ray2CTPA: the way of a case, and the source of each branch.

The generated CTPA's score is shown beside the pathway and never changes the way: with a sensitivity of 74 %,
4.6 % of patients with a negative score and the Wells tier "unlikely" have PE, and an exclusion needs less
than about 2 %.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from xray2ctpa_core.triage.criteria import SOURCES
from xray2ctpa_core.triage.likelihood import Counts, post_test
from xray2ctpa_core.triage.rules import (
    D_DIMER_FIXED,
    LIKELY,
    age_adjusted_cutoff,
    perc_contradictions,
    perc_met,
    wells_score,
    wells_tier,
    years_excludes,
)
from xray2ctpa_core.wording import NO_SCORE, apart, second_opinion_sentence

OTHER, PERC_OUT, MEASURE, EXCLUDED, IMAGE = STEPS = (
    "other pathway",
    "excluded by PERC",
    "measure D-dimer",
    "excluded by D-dimer",
    "CTPA",
)
#: Shown below every drawing and every list of the pathway.
TRIAGE_NOTICE = "Research use only. The generated score never replaces a D-dimer or a CTPA."


@dataclass(frozen=True)
class Case:
    """The known data of a patient.

    Attributes:
        wells: names of the WELLS items that apply.
        perc: names of the PERC items that are true.
        gestalt_low: whether the clinician considers PE unlikely (below 15 %), which PERC requires.
        age: in years; None if unknown.
        d_dimer: ng/mL FEU; None if not measured.
        unstable: haemodynamic instability or pregnancy.
    """

    wells: Collection[str] = ()
    perc: Collection[str] = ()
    gestalt_low: bool = False
    age: int | None = None
    d_dimer: float | None = None
    unstable: bool = False


@dataclass(frozen=True)
class Score:
    """The generated CTPA's score and its operating point.

    Attributes:
        value: 0..1; None for a model without a PE classifier.
        threshold: operating point, 0..1.
        counts: of the patients on whom it was evaluated; None if there are none.
        opinion: pe.second_opinion of result.json; None if there is none.
        unreliable: pe.unreliable of result.json, why no score means anything here; None if none is known.
    """

    value: float | None
    threshold: float
    counts: Counts | None = None
    opinion: Mapping[str, Any] | None = None
    unreliable: str | None = None


@dataclass(frozen=True)
class Way:
    """The way of a case.

    Attributes:
        step: the next step, one of STEPS.
        boxes: names of the BOXES on its way, in order.
        reasons: sentences, each with its source in brackets.
    """

    step: str
    boxes: tuple[str, ...]
    reasons: tuple[str, ...]


#: Boxes of the drawing: name -> (text, column 0..2, row 0..4).
BOXES = {
    "suspected": ("Suspected PE", 1, 0),
    "other": ("Unstable, pregnant:\nother pathway", 0, 0),
    "wells": ("Wells score", 1, 1),
    "model": ("X-ray2CTPA score,\nbeside", 2, 1),
    "perc": ("PERC, if thought\nunlikely", 0, 2),
    "d_dimer": ("D-dimer", 1, 3),
    "ctpa": ("CTPA", 2, 4),
    "excluded": ("PE excluded", 0, 4),
}
#: Text of the box "model" if the score is not used.
NOT_USED = "X-ray2CTPA score,\nnot used"
#: The score, which is beside the pathway and does not change the way: drawn as a dotted line.
BESIDE = ("model", "wells")
#: Arrows of the drawing: from, to, label.
ARROWS = (
    ("suspected", "other", ""),
    ("suspected", "wells", ""),
    ("wells", "ctpa", "> 4"),
    ("wells", "d_dimer", "<= 4"),
    ("wells", "perc", "<= 4"),
    ("perc", "excluded", "all 8"),
    ("perc", "d_dimer", "not all"),
    ("d_dimer", "ctpa", "raised"),
    ("d_dimer", "excluded", "not raised"),
)


def way_of(case: Case) -> Way:
    """The way of a case by Wells, PERC and D-dimer, independent of a model's score."""
    if case.unstable:
        reason = "Unstable circulation or pregnancy leaves this pathway at once" + _by("pathway")
        return Way(OTHER, ("suspected", "other"), (reason,))
    score = wells_score(case.wells)
    tier = wells_tier(score)
    said = f"Wells {score:g}: PE {tier.name}, {100 * tier.pe:.0f} % of such patients have it" + _by(
        "Wells tiers"
    )
    before: tuple[str, ...] = ("suspected", "wells")
    if tier is LIKELY:
        return Way(
            IMAGE, (*before, "ctpa"), (said, "A D-dimer is not used where PE is likely" + _by("pathway"))
        )
    reasons = [said]
    if case.gestalt_low and perc_met(case.perc):
        against = perc_contradictions(case.perc, case.wells, case.age)
        if not against:
            reason = "PE is thought unlikely and all eight PERC items hold: no D-dimer" + _by("PERC")
            return Way(PERC_OUT, (*before, "perc", "excluded"), (said, reason))
        reasons.append(f"PERC excludes nothing, because it contradicts: {'; '.join(against)}" + _by("PERC"))
    before = (*before, "perc", "d_dimer") if case.gestalt_low and case.perc else (*before, "d_dimer")
    cutoff = age_adjusted_cutoff(case.age)
    is_adjusted = cutoff > D_DIMER_FIXED
    limit = f"{cutoff:.0f} ng/mL FEU" + (", age-adjusted" if is_adjusted else "")
    by = _by("age-adjusted" if is_adjusted else "pathway")
    if case.d_dimer is None:
        reasons.append(f"D-dimer is the next step; raised from {limit}{by}")
        return Way(MEASURE, before, tuple(reasons))
    if case.d_dimer < cutoff:
        reasons.append(f"D-dimer {case.d_dimer:.0f} is under {limit}: PE excluded{by}")
    else:
        reasons.append(f"D-dimer {case.d_dimer:.0f} is raised, from {limit}: CTPA{by}")
    reasons += _by_years(case, case.d_dimer, cutoff)
    if case.d_dimer < cutoff:
        return Way(EXCLUDED, (*before, "excluded"), tuple(reasons))
    return Way(IMAGE, (*before, "ctpa"), tuple(reasons))


def beside(case: Case, score: Score | None) -> tuple[str, ...]:
    """Sentences on the generated CTPA's score and its uncertainty, which change no step."""
    if score is None:
        return ("No generated CTPA is selected.",)
    if score.unreliable:
        return (f"The score of the generated CTPA is not used. {score.unreliable}",)
    opinions = () if score.opinion is None else (second_opinion_sentence(score.opinion),)
    if score.value is None:
        return (f"{NO_SCORE}.", *opinions)
    positive = score.value >= score.threshold
    side = "at or above" if positive else "below"
    value, point = apart(score.value, score.threshold)
    first = f"Generated CTPA: score {value}, {side} its operating point {point}."
    if score.counts is None:
        unknown = "No patients stand behind this model: its likelihood ratio is not known."
        return (first, unknown, *opinions)
    ratio = score.counts.ratio(positive)
    tier = wells_tier(wells_score(case.wells))
    after, low, high = (post_test(tier.pe, value) for value in (ratio.estimate, ratio.lower, ratio.upper))
    name = "LR+" if positive else "LR-"
    second = (
        f"{name} {ratio.estimate:.2f} [{ratio.lower:.2f}, {ratio.upper:.2f}], 95 % interval, of "
        f"{score.counts.diseased} patients with and {score.counts.healthy} without PE: "
        f"{100 * tier.pe:.0f} % would become {100 * after:.1f} % [{100 * low:.1f}, {100 * high:.1f}]."
    )
    use = (
        "May speak for earlier imaging in the order of work."
        if positive
        else "Excludes nothing: under about 2 % would be needed, for every such patient."
    )
    return (first, second, use, *opinions)


def box_texts(score: Score | None) -> dict[str, str]:
    """The texts of BOXES: the model's says so if the score is not used."""
    texts = {name: text for name, (text, _column, _row) in BOXES.items()}
    return texts | ({"model": NOT_USED} if score is not None and score.unreliable else {})


def _by_years(case: Case, d_dimer: float, cutoff: float) -> list[str]:
    excludes = years_excludes(case.wells, d_dimer)
    said = [f"YEARS {'excludes' if excludes else 'does not exclude'} PE" + _by("YEARS")]
    if excludes and d_dimer >= cutoff:
        said.append("The two differ here" + _by("YEARS caution"))
    return said


def _by(source: str) -> str:
    return f" ({SOURCES[source]})."
