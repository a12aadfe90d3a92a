"""Analysis of a reader study: rates with intervals, exact tests, agreement; compared with the paper's Table
6."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import cohen_kappa_score

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.metrics.classification import delong_interval
from xray2ctpa_core.metrics.intervals import Interval, wilson
from xray2ctpa_core.metrics.mcnemar import mcnemar
from xray2ctpa_core.reader_study.answers import Answer
from xray2ctpa_core.reader_study.multi_reader import compare_readers
from xray2ctpa_core.reader_study.protocol import Phase, Protocol

#: Table 6 of X-ray2CTPA (arXiv:2406.16109): 20 cases, with the generated CTPA; its p of McNemar's test are
#: those of the uncorrected chi-square.
PAPER = (
    {"reader": "paper, reader 1", "accuracy": 0.75, "sensitivity": 0.8, "specificity": 0.7, "p": 0.025},
    {"reader": "paper, reader 2", "accuracy": 0.75, "sensitivity": 0.9, "specificity": 0.6, "p": 0.033},
)
#: Questions with yes or no, and the entry of the truth that they ask for.
ASKS = {"pe": ("yes", "pe"), "real": ("synthetic", "generated")}

Truth = Mapping[str, Mapping[str, bool]]


def analyse(protocol: Protocol, answers: Sequence[Answer], truth: Truth) -> dict[str, Any]:
    """Analyses the answers, phase by phase.

    Args:
        protocol: the study.
        answers: of all readers; incomplete phases are included.
        truth: by case.

    Returns:
        {"phases": {name: {reader: numbers}}, "with_and_without", "multi_reader", "agreement", "paper"}
    """
    if not answers:
        raise InputError("Expected answers to analyse, got none.")
    readers = sorted({answer.reader for answer in answers})
    phases = {
        phase.name: {
            reader: numbers
            for reader in readers
            if (numbers := _phase_numbers(phase, _of(answers, reader, phase.name), truth))
        }
        for phase in protocol.phases
    }
    pairs = _pe_phases(protocol)
    return {
        "title": protocol.title,
        "phases": phases,
        "with_and_without": [_compare(answers, reader, *pairs, truth) for reader in readers] if pairs else [],
        "multi_reader": _multi_reader(answers, readers, pairs, truth) if pairs else None,
        "agreement": _agreement(protocol, answers, readers),
        "paper": list(PAPER),
    }


def reader_score(answer: Answer, question: str) -> int:
    """-5 to 5: a reader's confidence in "yes" (or "synthetic"); the sign is the answer itself."""
    sign = 1 if answer.answers[question] == ASKS[question][0] else -1
    return sign * int(answer.answers["confidence"])


def _phase_numbers(phase: Phase, answers: Sequence[Answer], truth: Truth) -> dict[str, Any]:
    first = [answer for answer in answers if not answer.repeat]
    if not first:
        return {}
    numbers: dict[str, Any] = {
        "n": len(first),
        "median_seconds": float(np.median([a.seconds for a in first])),
    }
    for question in phase.questions:
        if question in ASKS:
            numbers |= _rates(first, question, truth)
        elif question != "confidence":
            values = [int(answer.answers[question]) for answer in first]
            numbers[question] = {"mean": float(np.mean(values)), "counts": _counts(values)}
    return numbers


def _rates(answers: Sequence[Answer], question: str, truth: Truth) -> dict[str, Any]:
    said, asked = ASKS[question]
    called = np.array([answer.answers[question] == said for answer in answers])
    true = np.array([truth[answer.case][asked] for answer in answers])
    right = called == true
    rates: dict[str, Any] = {
        "accuracy": _share(right),
        "sensitivity": _share(right[true]),
        "specificity": _share(right[~true]),
    }
    if min(true.sum(), (~true).sum()) >= 2:
        scores = np.array([reader_score(answer, question) for answer in answers])
        rates["auroc"] = _plain(delong_interval(true.astype(int), scores))
    return rates


def _compare(
    answers: Sequence[Answer], reader: str, without: Phase, with_it: Phase, truth: Truth
) -> dict[str, Any]:
    """McNemar's test of a reader's right answers without and with the generated CTPA, on the same cases."""
    before = {a.case: a for a in _of(answers, reader, without.name) if not a.repeat}
    after = {a.case: a for a in _of(answers, reader, with_it.name) if not a.repeat}
    cases = sorted(set(before) & set(after))
    if not cases:
        return {"reader": reader, "n": 0}
    rights = [
        np.array([(a[case].answers["pe"] == "yes") == truth[case]["pe"] for case in cases])
        for a in (before, after)
    ]
    test = mcnemar(*rights)
    return {
        "reader": reader,
        "n": len(cases),
        "right_without_only": test.first_only,
        "right_with_only": test.second_only,
        "exact_p": test.exact_p,
        "uncorrected_p": test.p_plain,
    }


def _multi_reader(
    answers: Sequence[Answer], readers: Sequence[str], pairs: tuple[Phase, Phase], truth: Truth
) -> dict[str, Any] | None:
    """Obuchowski and Rockette's comparison on the cases that all readers have read both ways."""
    tables = [
        {(a.reader, a.case): a for a in answers if a.phase == phase.name and not a.repeat} for phase in pairs
    ]
    cases = [
        case
        for case in sorted(set(pairs[0].cases) & set(pairs[1].cases))
        if all((reader, case) in table for table in tables for reader in readers)
    ]
    labels = np.array([truth[case]["pe"] for case in cases], dtype=int)
    if len(readers) < 2 or min(labels.sum(), (1 - labels).sum()) < 2:
        return None
    first, second = (
        np.array([[reader_score(table[reader, case], "pe") for case in cases] for reader in readers])
        for table in tables
    )
    result = compare_readers(labels, first, second)
    return {
        "n": len(cases),
        "readers": len(readers),
        "auroc_without": result.first,
        "auroc_with": result.second,
        "difference": _plain(result.difference),
        "p": result.p,
    }


def _agreement(protocol: Protocol, answers: Sequence[Answer], readers: Sequence[str]) -> list[dict[str, Any]]:
    """Cohen's kappa of each pair of readers, and of each reader's answers to repeats."""
    found = []
    for phase, question in [(p, q) for p in protocol.phases for q in p.questions if q != "confidence"]:
        said = {
            (reader, repeat): {
                a.case: a.answers[question] for a in _of(answers, reader, phase.name) if a.repeat is repeat
            }
            for reader in readers
            for repeat in (False, True)
        }
        couples = [((a, False), (b, False)) for a, b in itertools.combinations(readers, 2)]
        couples += [((reader, False), (reader, True)) for reader in readers]
        for first, second in couples:
            cases = sorted(set(said[first]) & set(said[second]))
            if len(cases) >= 2:
                one, other = ([said[who][case] for case in cases] for who in (first, second))
                found.append(
                    {
                        "phase": phase.name,
                        "question": question,
                        "readers": [first[0], second[0]],
                        "n": len(cases),
                        "kappa": _kappa(one, other, ordinal=question not in ASKS),
                    }
                )
    return found


def _kappa(first: Sequence[str], second: Sequence[str], ordinal: bool) -> float | None:
    """Cohen's kappa; None if both always give the same answer, because it is not defined then."""
    if len({*first, *second}) == 1:
        return None
    if ordinal:
        return float(cohen_kappa_score([*map(int, first)], [*map(int, second)], weights="linear"))
    return float(cohen_kappa_score(first, second))


def _pe_phases(protocol: Protocol) -> tuple[Phase, Phase] | None:
    """The phases that ask for PE without and with a volume."""
    asking = [phase for phase in protocol.phases if "pe" in phase.questions]
    without = [phase for phase in asking if "volume" not in phase.shows]
    with_it = [phase for phase in asking if "volume" in phase.shows]
    return (without[0], with_it[0]) if without and with_it else None


def _of(answers: Sequence[Answer], reader: str, phase: str) -> list[Answer]:
    return [answer for answer in answers if (answer.reader, answer.phase) == (reader, phase)]


def _share(right: np.ndarray) -> dict[str, float | None]:
    return _plain(wilson(int(right.sum()), len(right)))


def _plain(interval: Interval) -> dict[str, float | None]:
    """An interval for JSON, with None for NaN."""
    values = (interval.estimate, interval.lower, interval.upper)
    clean = [None if math.isnan(value) else value for value in values]
    return dict(zip(("estimate", "lower", "upper"), clean, strict=True))


def _counts(values: Sequence[int]) -> dict[str, int]:
    return {str(value): values.count(value) for value in range(1, 6)}
