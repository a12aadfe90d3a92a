"""Cases on disk: a folder for each study, written atomically, resumable, by any number of workers.

A study that kills its process (usually for lack of memory) is tried TRIES times in all, in this run or later
ones, and then listed among the failed ones.

``out`` holds cases/<id>/ with case.json (written last), settings.json, cases.csv (every complete case with
its patient, label and split) and errors.jsonl (failed cases of the last run, with reasons).
"""

import csv
import functools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xray2ctpa_core import __version__
from xray2ctpa_core.cluster import here, on_cluster
from xray2ctpa_core.config import write_json, write_json_lines, write_text_atomically
from xray2ctpa_core.data.sources.study import Study
from xray2ctpa_core.data.sources.table import csv_text
from xray2ctpa_core.errors import DeviceError, InputError, OutputError, XRay2CTPAError
from xray2ctpa_core.io.provenance import package_versions
from xray2ctpa_core.io.result_folder import writing
from xray2ctpa_core.workers import TRIES, in_processes

CASE_FILE, SETTINGS_FILE = "case.json", "settings.json"
TABLE_FILE, ERRORS_FILE = "cases.csv", "errors.jsonl"
CASES_FOLDER = "cases"
#: File in the hidden folder of an unfinished case: number of tries so far.
_TRIES_FILE = "tries"
COLUMNS = ("id", "patient", "label", "split", "folder")
_PACKAGES = ("numpy", "scipy", "SimpleITK", "nibabel", "pydicom", "torch", "diffdrr", "lungmask")

#: Writes a study's files into an existing, empty folder and returns the record for case.json.
CaseWriter = Callable[[Study, Path], dict[str, Any]]


@dataclass(frozen=True)
class CasesSummary:
    """Result of a run.

    Attributes:
        complete: number of complete cases; ``former``: how many of them existed before the run.
        failed: a message for each failed case, in order: id, table and row, reason.
    """

    complete: int
    former: int
    failed: tuple[str, ...]

    def summary_lines(self) -> list[str]:
        """The summary as lines of text."""
        of = self.complete + len(self.failed)
        lines = [f"{self.complete} of {of} cases are complete, {self.former} of them from before."]
        if self.failed:
            lines.append(f"{len(self.failed)} failed; {ERRORS_FILE} says why. The first: {self.failed[0]}")
        return lines


def write_cases(
    out: Path,
    studies: Sequence[Study],
    write_case: CaseWriter,
    settings: Mapping[str, Any],
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    cluster: str = "",
) -> CasesSummary:
    """Writes each study's case into ``out``; existing cases are skipped, failing ones logged and skipped.

    Args:
        out: folder; cases of other settings there are refused.
        studies: with unique ids.
        write_case: picklable; must depend on the study only.
        settings: JSON-ready, with everything that changes the files' content.
        workers: processes; 1 is this process with one thread, 0 this process with all its threads.
        progress: called with (done, total) after each case.
        cluster: Dask workers in place of processes (`cluster.on_cluster`); they must reach the files.

    Raises:
        InputError: two ids with one folder name, cases of other settings, or no complete case at all.
        OutputError: the folder cannot be written or the disk is full; complete cases stay.
    """
    out = Path(out).absolute() if cluster else Path(out)
    folders = _folders(out, studies)
    _claim(out, settings)
    missing = [study for study in studies if not (folders[study.id] / CASE_FILE).is_file()]
    former = len(studies) - len(missing)
    failures: dict[str, dict[str, Any]] = {}
    attempt = functools.partial(_attempt, out, write_case)
    killed = functools.partial(_killed, out)
    if cluster:
        made = on_cluster(attempt, missing, cluster, killed)
    else:
        made = in_processes(attempt, missing, workers, killed)
    for done, (study, failure) in enumerate(made, former + 1):
        if failure is not None:
            failures[study.id] = failure
        if progress is not None:
            progress(done, len(studies))
    failed = [failures[study.id] for study in missing if study.id in failures]
    complete = [study for study in studies if study.id not in failures]
    with writing(out):
        write_json_lines(out / ERRORS_FILE, failed)
        write_text_atomically(out / TABLE_FILE, _table(complete, folders, out))
    if not complete:
        raise InputError(
            f"Expected at least one case to succeed, all {len(failed)} failed. The first: {_said(failed[0])}",
            f"All reasons are in {out / ERRORS_FILE}.",
        )
    return CasesSummary(len(complete), former, tuple(_said(failure) for failure in failed))


def case_rows(out: Path) -> list[dict[str, str]]:
    """The rows of cases.csv (COLUMNS; an unknown label or split is ""); InputError where there are none."""
    path = Path(out) / TABLE_FILE
    rows = []
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    if not rows:
        raise InputError(
            f"Expected complete cases in {out}, found none.", "Run the step that writes them first."
        )
    return rows


def read_case(folder: Path) -> dict[str, Any]:
    """A case's record (case.json): its files, their sources and settings."""
    return json.loads((folder / CASE_FILE).read_text(encoding="utf-8"))


def _folders(out: Path, studies: Sequence[Study]) -> dict[str, Path]:
    """Folder of each study by id; raises InputError for two ids with one folder."""
    folders: dict[str, Path] = {}
    owner: dict[Path, str] = {}
    for study in studies:
        folder = case_folder(out, study.id)
        other = owner.setdefault(folder, study.id)
        if other != study.id or folder == out / CASES_FOLDER:
            raise InputError(
                f"Expected ids that make different folder names, got {other!r} and {study.id!r}.",
                "Rename one of them in the table.",
            )
        folders[study.id] = folder
    return folders


def case_folder(out: Path, study: str) -> Path:
    """Folder of the study with that id; characters other than letters, digits, dot, dash and underscore are
    replaced."""
    return out / CASES_FOLDER / re.sub(r"[^A-Za-z0-9._-]", "_", study).lstrip(".")


def _said(failure: Mapping[str, Any]) -> str:
    where = f" ({failure['where']})" if failure["where"] else ""
    return f"{failure['id']}{where}: {failure['message']}"


def _claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Records the settings in ``out``; raises InputError for a folder with cases of other settings."""
    path = out / SETTINGS_FILE
    if path.is_file():
        found, new = json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(dict(settings)))
        changed = sorted(key for key in found | new if found.get(key) != new.get(key))
        if changed:
            raise InputError(
                f"Expected {out} to hold cases of these settings, they differ in {', '.join(changed)}.",
                "Choose another --out, or the settings in its settings.json.",
            )
        return
    with writing(out):
        write_json(path, dict(settings))


def _attempt(out: Path, write_case: CaseWriter, study: Study) -> dict[str, Any] | None:
    """Writes one case; returns None, or a record for errors.jsonl.

    When the process is killed, the hidden folder and its count of tries stay.
    """
    folder = _folders(out, [study])[study.id]
    if (folder / CASE_FILE).is_file():
        return None  # written by an earlier try that was killed afterwards
    partial = _partial(folder)
    tries = _tries(partial)
    if tries >= TRIES:
        return _killed(out, study)
    try:
        with writing(out):
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            (partial / _TRIES_FILE).write_text(str(tries + 1), encoding="utf-8")
        with _any_error():
            record = write_case(study, partial)
        content = {"id": study.id, **record, "versions": software()}
        if (place := here()) is not None:
            content["made_on"] = place
        with writing(out):
            (partial / CASE_FILE).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            (partial / _TRIES_FILE).unlink()
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
    except OutputError:
        raise
    except XRay2CTPAError as error:
        return {"id": study.id, "where": study.where, "message": error.message, "hint": error.hint}
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return None


def _killed(out: Path, study: Study) -> dict[str, Any]:
    """The record for errors.jsonl of a study that killed its process on each try."""
    partial = _partial(_folders(out, [study])[study.id])
    return {
        "id": study.id,
        "where": study.where,
        "message": f"Expected the process to finish this study, it was killed {TRIES} times.",
        "hint": f"The most likely cause is lack of memory. To try it again, remove {partial}.",
    }


def _partial(folder: Path) -> Path:
    """The hidden folder in which a case is written until it is complete."""
    return folder.with_name(f".{folder.name}.partial")


def _tries(partial: Path) -> int:
    """Number of earlier tries of a case that were killed."""
    try:
        return int((partial / _TRIES_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


@contextmanager
def _any_error() -> Iterator[None]:
    """Context that turns errors of third-party code on a bad case into InputError, so that others proceed."""
    try:
        yield
    except XRay2CTPAError:
        raise
    except MemoryError as error:
        raise DeviceError("Expected the case to fit in memory, got no room for it.") from error
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise InputError(f"Unexpected {type(error).__name__}: {text}", "Is the case damaged?") from error


def software() -> dict[str, str | None]:
    """Versions of the packages that make the files; None for one that is not installed."""
    return {"xray2ctpa_core": __version__} | package_versions(_PACKAGES)


def _table(studies: Sequence[Study], folders: Mapping[str, Path], out: Path) -> str:
    rows = []
    for study in studies:
        folder = folders[study.id].relative_to(out).as_posix()
        label = "" if study.label is None else study.label
        rows.append([study.id, study.patient, label, study.split or "", folder])
    return csv_text(COLUMNS, rows)


def save_array(array: np.ndarray, path: Path) -> None:
    """Writes ``array`` as .npy; raises OutputError where the disk is full or read-only."""
    with writing(path):
        np.save(path, array)
