"""A reader study as a file: its cases, its phases with their questions, and the order for each reader.

The truth is in a separate file, which is not opened during reading; the protocol holds its SHA-256, and
every answer holds the protocol's.
"""

import hashlib
import json
import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core.errors import InputError

STUDY_FILE, TRUTH_FILE, ANSWERS_FOLDER = "study.json", "truth.json", "answers"
SCHEMA_VERSION = "1"
#: Pattern of a reader's code, which becomes a file name.
READER = re.compile(r"[A-Za-z0-9_-]{1,32}")
SEQUENTIAL, CROSSOVER = DESIGNS = ("sequential", "crossover")


@dataclass(frozen=True)
class Question:
    """A question with its answers.

    Attributes:
        name: column of the answers' table.
        text: shown to the reader.
        answers: texts by the stored value.
    """

    name: str
    text: str
    answers: Mapping[str, str]


_CONFIDENCE = Question(
    "confidence",
    "How sure are you?",
    {"1": "guessed", "2": "rather unsure", "3": "fairly sure", "4": "sure", "5": "certain"},
)
QUESTIONS = {
    question.name: question
    for question in (
        Question("real", "Is this volume real?", {"real": "real", "synthetic": "synthetic"}),
        Question(
            "anatomy",
            "Anatomic correctness",
            {
                "1": "not realistic",
                "2": "mostly unrealistic",
                "3": "realistic and unrealistic areas",
                "4": "mostly realistic, minor unrealistic areas",
                "5": "realistic",
            },
        ),
        Question(
            "consistency",
            "Slice consistency",
            {
                "1": "slices do not belong together",
                "2": "major inconsistencies",
                "3": "some inconsistencies",
                "4": "minor inconsistencies",
                "5": "no inconsistencies",
            },
        ),
        Question("pe", "Is there pulmonary embolism?", {"yes": "yes", "no": "no"}),
        _CONFIDENCE,
    )
}


@dataclass(frozen=True)
class StudyCase:
    """A case, whose name and files do not reveal what it is.

    Attributes:
        name: opaque.
        volume, radiograph: files in the study's folder; None if the case has none.
    """

    name: str
    volume: str | None = None
    radiograph: str | None = None


@dataclass(frozen=True)
class Phase:
    """A part of a study.

    Attributes:
        name: column of the answers' table.
        title: shown to the reader.
        questions: names of QUESTIONS, all of which must be answered.
        shows: "volume", "radiograph" or both.
        cases: names of its cases.
        repeats: number of cases that are shown a second time, for a reader's agreement with himself.
        blinded: whether the views do not show the word SYNTHETIC, because it would be the answer.
    """

    name: str
    title: str
    questions: tuple[str, ...]
    shows: tuple[str, ...]
    cases: tuple[str, ...]
    repeats: int = 0
    blinded: bool = False


@dataclass(frozen=True)
class Presentation:
    """One presentation of a case: its position in the reader's order, from 0, and whether it is a repeat."""

    position: int
    case: StudyCase
    repeat: bool


@dataclass(frozen=True)
class Protocol:
    """A study.

    Attributes:
        title: for display.
        seed: of the orders.
        design: "sequential" (phases in their order) or "crossover" (every second reader reads the last two
            phases the other way round).
        washout_days: days between the last two phases of a reader.
        truth_sha256: of the file with the truth.
        cases, phases: of the study.
    """

    title: str
    seed: int
    design: str
    washout_days: float
    truth_sha256: str
    cases: tuple[StudyCase, ...]
    phases: tuple[Phase, ...]

    def __post_init__(self) -> None:
        known, problems = {case.name for case in self.cases}, []
        if self.design not in DESIGNS:
            problems.append(f"design {self.design!r} is none of {', '.join(DESIGNS)}")
        if len(known) != len(self.cases):
            problems.append("two cases have one name")
        for phase in self.phases:
            unknown = set(phase.cases) - known | set(phase.questions) - set(QUESTIONS)
            if unknown:
                problems.append(f"phase {phase.name!r} names {', '.join(sorted(unknown))}, which is unknown")
            if not 0 <= phase.repeats <= len(phase.cases):
                problems.append(f"phase {phase.name!r} repeats {phase.repeats} of {len(phase.cases)} cases")
        if not self.phases or problems:
            raise InputError(f"Expected a complete study, got: {'; '.join(problems) or 'no phase'}.")

    def phases_of(self, reader: str) -> tuple[Phase, ...]:
        """The phases in the order in which ``reader`` reads them."""
        require_reader(reader)
        if self.design == CROSSOVER and _draw(self.seed, reader, "phases").random() < 0.5:
            *first, last_but_one, last = self.phases
            return (*first, last, last_but_one)
        return self.phases

    def order(self, reader: str, phase: Phase) -> tuple[Presentation, ...]:
        """The cases of a phase in the reader's own random order; repeats come after all of them."""
        require_reader(reader)
        draw, cases = _draw(self.seed, reader, phase.name), {case.name: case for case in self.cases}
        shown = draw.sample(phase.cases, len(phase.cases))
        again = draw.sample(phase.cases, phase.repeats)
        names = [(name, False) for name in shown] + [(name, True) for name in again]
        return tuple(Presentation(n, cases[name], repeat) for n, (name, repeat) in enumerate(names))


def require_reader(reader: str) -> None:
    """Raises InputError for an invalid reader's code."""
    if not READER.fullmatch(reader):
        raise InputError(
            f"Expected a reader's code of letters, digits, - and _, got {reader!r}.",
            "Take a code that names nobody, for example R1.",
        )


def write_protocol(protocol: Protocol, folder: Path) -> str:
    """Writes study.json into ``folder``; returns its SHA-256."""
    content = json.dumps({"schema_version": SCHEMA_VERSION, **asdict(protocol)}, indent=1) + "\n"
    (Path(folder) / STUDY_FILE).write_text(content, encoding="utf-8")
    return sha256(content.encode())


def read_protocol(folder: Path) -> tuple[Protocol, str]:
    """The study in ``folder`` and the SHA-256 of its file; raises InputError if there is none."""
    path = Path(folder) / STUDY_FILE
    try:
        content = path.read_bytes()
        values = json.loads(content)
        if values.pop("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version is not {SCHEMA_VERSION}")
        values["cases"] = tuple(StudyCase(**case) for case in values["cases"])
        values["phases"] = tuple(_phase(phase) for phase in values["phases"])
        return Protocol(**values), sha256(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"Expected a reader study in {folder}, got: {error}.",
            "Choose a folder that `xray2ctpa reader-study make` wrote.",
        ) from error


def read_truth(folder: Path, protocol: Protocol) -> dict[str, dict[str, bool]]:
    """{case: {"pe": bool, "generated": bool}}; raises InputError unless it is the protocol's own truth."""
    path = Path(folder) / TRUTH_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Expected the truth of the study in {path}, got: {error}.") from error
    if sha256(content) != protocol.truth_sha256:
        raise InputError(
            f"Expected the truth with SHA-256 {protocol.truth_sha256}, got another in {path}.",
            "The truth was changed since the study was made: use the original file.",
        )
    return dict(json.loads(content))


def sha256(content: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(content).hexdigest()


def _phase(values: dict[str, Any]) -> Phase:
    lists = {name: tuple(values[name]) for name in ("questions", "shows", "cases")}
    return Phase(**{**values, **lists})


def _draw(seed: int, reader: str, what: str) -> random.Random:
    return random.Random(f"{seed}/{reader}/{what}")
