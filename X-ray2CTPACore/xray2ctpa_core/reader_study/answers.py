"""A reader's answers: one line a presentation, on the disk before the next case is shown."""

import csv
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.reader_study.protocol import (
    ANSWERS_FOLDER,
    QUESTIONS,
    Phase,
    Presentation,
    Protocol,
    require_reader,
)


@dataclass(frozen=True)
class Answer:
    """One line of the table.

    Attributes:
        reader, protocol_sha256, phase, case: whose, of which study, where.
        position: in the reader's order, from 0.
        repeat: whether the case was shown a second time.
        answers: value by question; "" for questions of other phases.
        started, ended: ISO 8601, UTC.
        seconds, paused_seconds: of reading, without the pauses, and of pauses.
        display: settings of the views at the end, as text.
        software: versions.
    """

    reader: str
    protocol_sha256: str
    phase: str
    case: str
    position: int
    repeat: bool
    started: str
    ended: str
    seconds: float
    paused_seconds: float
    display: str = ""
    software: str = ""
    answers: Mapping[str, str] = field(default_factory=dict)


_PLAIN = [f.name for f in fields(Answer) if f.name != "answers"]
COLUMNS = [*_PLAIN, *QUESTIONS]


class AnswerFile:
    """The table of one reader in the study's folder ``answers``; lines are added, never changed.

    Raises:
        InputError: the table holds answers of another protocol or reader, was changed, or is damaged.
        OutputError: nothing can be written into the study's folder.
    """

    def __init__(self, folder: Path, protocol: Protocol, protocol_sha256: str, reader: str) -> None:
        require_reader(reader)
        self.path = Path(folder) / ANSWERS_FOLDER / f"{reader}.csv"
        self.protocol, self.sha256, self.reader = protocol, protocol_sha256, reader
        self.answers = read_answers(self.path) if self.path.exists() else []
        others = {answer.protocol_sha256 for answer in self.answers} - {protocol_sha256}
        if others:
            raise InputError(
                f"Expected answers to the protocol {protocol_sha256[:12]}, got {others.pop()[:12]}.",
                "The study was changed since: read it under another code, or restore study.json.",
            )
        if any(answer.reader != reader for answer in self.answers):  # where case does not count in names
            raise InputError(
                f"Expected answers of the reader {reader}, got those of {self.answers[0].reader}.",
                f"Read under the code {self.answers[0].reader}, or choose another.",
            )
        check_answers(self.answers, protocol)
        _require_writable(self.path.parent)

    def next(self, phase: Phase) -> Presentation | None:
        """The first presentation of a phase that has no answer yet; None where all have."""
        answered = {(answer.phase, answer.position) for answer in self.answers}
        order = self.protocol.order(self.reader, phase)
        return next((shown for shown in order if (phase.name, shown.position) not in answered), None)

    def current_phase(self) -> Phase | None:
        """The first phase, in the reader's order, that is not complete."""
        phases = self.protocol.phases_of(self.reader)
        return next((phase for phase in phases if self.next(phase) is not None), None)

    def wait_until(self, phase: Phase) -> datetime | None:
        """When the last phase of this reader may begin after the wash-out; None: now."""
        phases = self.protocol.phases_of(self.reader)
        if not self.protocol.washout_days or len(phases) < 2 or phase != phases[-1]:
            return None
        ended = [answer.ended for answer in self.answers if answer.phase == phases[-2].name]
        if not ended:
            return None
        earliest = datetime.fromisoformat(max(ended)) + timedelta(days=self.protocol.washout_days)
        return earliest if earliest > datetime.now(UTC) else None

    def add(self, answer: Answer, phase: Phase) -> None:
        """Appends an answer and waits until it is on the disk.

        Raises:
            InputError: a question is unanswered or has another answer than its own; it was answered before.
            OutputError: the disk does not take it.
        """
        for name in phase.questions:
            given = answer.answers.get(name)
            if given not in QUESTIONS[name].answers:
                expected = ", ".join(QUESTIONS[name].answers)
                raise InputError(f"Expected one of {expected} for {name}, got {given!r}.")
        if self.path.exists():
            self.answers = read_answers(self.path)  # the same reader may have a second window open
        if any((a.phase, a.position) == (answer.phase, answer.position) for a in self.answers):
            raise InputError(
                f"Expected a new answer, got a second one to case {answer.case} of {answer.phase}.",
                "Stop and start again: reading goes on at the first case without an answer.",
            )
        row = {name: getattr(answer, name) for name in _PLAIN} | dict(answer.answers)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            is_new = _remove_half_line(self.path) == 0
            with self.path.open("a", encoding="utf-8", newline="") as stream:
                writer = csv.DictWriter(stream, COLUMNS, restval="")
                if is_new:
                    writer.writeheader()
                writer.writerow(row)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise OutputError(
                f"The answer could not be written to {self.path}: {error.strerror or error}.",
                "Free some space or make the folder writable; the answer is still on the screen.",
            ) from error
        self.answers.append(answer)


def check_answers(answers: Sequence[Answer], protocol: Protocol) -> None:
    """Raises InputError unless every answer is to a case at its place in its reader's order, once, and one of
    its question's answers; otherwise somebody has changed the table."""
    phases = {phase.name: phase for phase in protocol.phases}
    orders: dict[tuple[str, str], tuple[Presentation, ...]] = {}
    seen: set[tuple[str, str, int]] = set()
    for answer in answers:
        place = (answer.reader, answer.phase, answer.position)
        phase = phases.get(answer.phase)
        problem = ""
        if phase is None:
            problem = "the study has no such part"
        else:
            key = (answer.reader, phase.name)
            order = orders.setdefault(key, protocol.order(answer.reader, phase))
            wrong = [q for q in phase.questions if answer.answers.get(q) not in QUESTIONS[q].answers]
            if not 0 <= answer.position < len(order):
                problem = f"the part has {len(order)} presentations"
            elif (order[answer.position].case.name, order[answer.position].repeat) != (
                answer.case,
                answer.repeat,
            ):
                problem = f"case {order[answer.position].case.name} was shown there"
            elif wrong:
                problem = f"{wrong[0]} has no answer {answer.answers.get(wrong[0], '')!r}"
            elif place in seen:
                problem = "it is there twice"
        if problem:
            raise InputError(
                f"Expected the answers as they were given, got an answer of {answer.reader} to case "
                f"{answer.case}, number {answer.position + 1} of {answer.phase}: {problem}.",
                "The table was changed by hand: restore it from a copy, or remove that line to read the case "
                "again.",
            )
        seen.add(place)


def _require_writable(folder: Path) -> None:
    """Raises OutputError unless a file can be made in ``folder``, so that no case is read in vain."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"Answers cannot be written to {folder}: {error.strerror or error}.",
            "Make the folder writable, or copy the study to a place that is.",
        ) from error


def _remove_half_line(path: Path) -> int:
    """Removes a last line that a crash cut off, so that the next one stands alone; returns the bytes left."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    length = content.rfind(b"\n") + 1
    if length < len(content):
        os.truncate(path, length)
    return length


def read_answers(path: Path) -> list[Answer]:
    """The answers in a table, without a last line that a crash cut off; InputError for another file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:  # spreadsheets add a mark
            content = stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"Expected a table of answers in {path}, got: {error}.") from error
    lines = content.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines = lines[:-1]
    rows = list(csv.DictReader(lines))
    try:
        return [_answer(row) for row in rows]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"Expected a table of answers in {path}, got a damaged one: {error}.") from error


def read_study_answers(folder: Path) -> list[Answer]:
    """All readers' answers in a study's folder, reader by reader; raises InputError where there are none."""
    files = sorted((Path(folder) / ANSWERS_FOLDER).glob("*.csv"))
    answers = [answer for file in files for answer in read_answers(file)]
    if not answers:
        raise InputError(
            f"Expected answers in {Path(folder) / ANSWERS_FOLDER}, got none.", "Read cases first."
        )
    return answers


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError(f"{text} is no number of seconds")
    return value


def _answer(row: dict[str, str]) -> Answer:
    return Answer(
        reader=row["reader"],
        protocol_sha256=row["protocol_sha256"],
        phase=row["phase"],
        case=row["case"],
        position=int(row["position"]),
        repeat={"true": True, "false": False}[row["repeat"].lower()],  # spreadsheets write TRUE
        started=row["started"],
        ended=row["ended"],
        seconds=_seconds(row["seconds"]),
        paused_seconds=_seconds(row["paused_seconds"]),
        display=row["display"],
        software=row["software"],
        answers={name: row[name] for name in QUESTIONS if row[name]},
    )
