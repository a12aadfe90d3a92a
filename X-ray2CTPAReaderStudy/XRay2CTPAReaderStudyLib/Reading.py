"""One reader's session of a study: the order of the cases, the time for each, and the storage of answers."""

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from slicer.i18n import tr as _

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.reader_study.answers import Answer, AnswerFile
from xray2ctpa_core.reader_study.protocol import Phase, Presentation, read_protocol


class Reading:
    """Goes from case to case, without a way back.

    Args:
        folder: of the study; its truth is never opened.
        reader: code of the reader.
        software: versions, stored with every answer.
        clock: returns seconds; replaceable in tests.

    Attributes:
        phase, shown: the present part of the study and case; None at the end.

    Raises:
        InputError: no study in the folder, an unusable code, or answers to another protocol.
    """

    def __init__(
        self, folder: Path, reader: str, software: str = "", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder = Path(folder)
        self.protocol, self.sha256 = read_protocol(self.folder)
        self._file = AnswerFile(self.folder, self.protocol, self.sha256, reader)
        self._software, self._clock = software, clock
        self.phase: Phase | None = None
        self.shown: Presentation | None = None

    def next(self) -> Presentation | None:
        """The first case without an answer, whose time starts now; None at the end of the study.

        Raises:
            InputError: the wash-out before the last phase is not over.
        """
        self.shown, self.phase = None, self._file.current_phase()
        if self.phase is None:
            return None
        wait = self._file.wait_until(self.phase)
        if wait is not None:
            raise InputError(
                _("The part {title} begins on {day} at the earliest.").format(
                    title=self.phase.title, day=wait.date().isoformat()
                ),
                _("Between the two last parts lie {days:g} days.").format(days=self.protocol.washout_days),
            )
        self.shown = self._file.next(self.phase)
        self._started, self._began = datetime.now(UTC), self._clock()
        self._paused, self._pausedAt = 0.0, None
        return self.shown

    @property
    def isPaused(self) -> bool:
        """Whether the clock is stopped."""
        return self._pausedAt is not None

    def pause(self) -> None:
        """Stops the clock."""
        if not self.isPaused:
            self._pausedAt = self._clock()

    def resume(self) -> None:
        """Restarts the clock."""
        if self.isPaused:
            self._paused += self._clock() - self._pausedAt
            self._pausedAt = None

    def submit(self, answers: Mapping[str, str], display: str = "") -> None:
        """Stores the answers to the present case; raises InputError and OutputError as AnswerFile.add."""
        if self.phase is None or self.shown is None:
            raise InputError(_("Expected a case that is shown, got none."))
        self.resume()
        self._file.add(
            Answer(
                reader=self._file.reader,
                protocol_sha256=self.sha256,
                phase=self.phase.name,
                case=self.shown.case.name,
                position=self.shown.position,
                repeat=self.shown.repeat,
                started=self._started.isoformat(),
                ended=datetime.now(UTC).isoformat(),
                seconds=round(self._clock() - self._began - self._paused, 2),
                paused_seconds=round(self._paused, 2),
                display=display,
                software=self._software,
                answers=dict(answers),
            ),
            self.phase,
        )

    def progress(self) -> tuple[int, int]:
        """(answered, all) of the present phase."""
        if self.phase is None or self.shown is None:
            return 0, 0
        return self.shown.position, len(self.protocol.order(self._file.reader, self.phase))
