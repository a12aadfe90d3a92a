"""A request for a job as JSON, from the process that a user has started to one that generates."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from xray2ctpa_core.generation.batch import Case
from xray2ctpa_core.generation.settings import Wishes


@dataclass(frozen=True)
class Request:
    """A job.

    Attributes:
        cases: radiographs and their results.
        bundle: folder of the bundle, an absolute path.
        wishes: settings of the generation.
        previews: whether previews are used.
        folder: working folder, to which paths are relative.
        umask: of the user's process, for the result's files.
    """

    cases: tuple[Case, ...]
    bundle: Path
    wishes: Wishes
    previews: bool
    folder: Path
    umask: int

    @classmethod
    def of_this_process(cls, cases: list[Case], bundle: Path, wishes: Wishes, previews: bool) -> Self:
        """A request with this process's working folder and umask."""
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(tuple(cases), Path(os.path.abspath(bundle)), wishes, previews, Path.cwd(), umask)

    def to_json(self) -> bytes:
        """As JSON text."""
        return json.dumps(asdict(self), default=os.fspath).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """The request in the output of `to_json`."""
        content = json.loads(text)
        cases = tuple(
            Case(Path(c["source"]), Path(c["target"]), None if c["dicom"] is None else Path(c["dicom"]))
            for c in content["cases"]
        )
        return cls(
            cases,
            Path(content["bundle"]),
            Wishes(**content["wishes"]),
            content["previews"],
            Path(content["folder"]),
            content["umask"],
        )
