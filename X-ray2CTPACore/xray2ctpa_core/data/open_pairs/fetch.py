"""Series of the selected pairs, brought onto this disk: each checked, each written whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.config import write_json_lines
from xray2ctpa_core.data.open_pairs.pairs import Pair
from xray2ctpa_core.data.open_pairs.series import Series, folder_name
from xray2ctpa_core.errors import InputError, OutputError, XRay2CTPAError
from xray2ctpa_core.io.result_folder import partial_prefix, remove_leftovers

DICOM_FOLDER, ERRORS_FILE = "dicom", "fetch-errors.jsonl"
#: MB by which a series may differ from the size that the index states: the table rounds it to 0.01.
_SIZE_MB = 0.01

#: What a system says of a full disk and of a full quota.
_FULL = (errno.ENOSPC, errno.EDQUOT)

#: Copies the files of a series into an empty folder.
Store = Callable[[Series, Path], None]


@dataclass(frozen=True)
class Fetched:
    """What a run did.

    Attributes:
        complete: series that are there now; ``former``: those of them that were there before.
        failed: why each of the others is not: UID and what is wrong.
    """

    complete: int
    former: int
    failed: tuple[str, ...]


def series_folder(folder: Path, series: Series) -> Path:
    """Where a fetched series lies."""
    return (
        folder
        / DICOM_FOLDER
        / folder_name(series.collection)
        / folder_name(series.patient)
        / folder_name(series.uid)
    )


def needed_series(pairs: Iterable[Pair], alternatives: int = 2) -> list[Series]:
    """The CT, the radiograph and at most ``alternatives`` other radiographs of each pair, each series
    once."""
    found: dict[Path, Series] = {}  # by folder: two collections may hold the same series
    for pair in pairs:
        for series in (pair.ct, pair.radiograph, *pair.others[:alternatives]):
            found.setdefault(series_folder(Path(), series), series)
    return list(found.values())


def missing_series(folder: Path, series: Iterable[Series]) -> list[Series]:
    """What is not on this disk yet."""
    return [one for one in series if not series_folder(folder, one).is_dir()]


def fetch_series(
    folder: Path,
    series: Sequence[Series],
    store: Store,
    on_done: Callable[[Series, str], None] | None = None,
    patience: int = 0,
) -> Fetched:
    """Fetches what is not there yet; a series that fails is logged in ERRORS_FILE and the others go on.

    Args:
        folder: of the cohort.
        series: to fetch.
        store: where from.
        on_done: called with each series and what was wrong with it, "" for nothing.
        patience: so many failures in a row mean that the store is out of reach; 0 never gives up.

    Raises:
        OutputError: the disk has not enough room for what is missing, or is full; whole series stay.
        InputError: the store is out of reach.
    """
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(one.megabytes for one in missing_series(folder, series))
    free = shutil.disk_usage(folder).free / 1e6
    if needed > free:
        raise OutputError(
            f"Expected {needed:.0f} MB of free disk at {folder}, got {free:.0f} MB.",
            "Free some space, choose another folder, or select fewer pairs.",
        )
    former, in_a_row, failed = 0, 0, []
    try:
        for one in series:
            target = series_folder(folder, one)
            if target.is_dir():
                former += 1
                continue
            wrong = _fetch_one(target, one, store)
            in_a_row = in_a_row + 1 if wrong else 0
            if wrong:
                failed.append(
                    {"series": one.uid, "patient": one.patient, "collection": one.collection, "wrong": wrong}
                )
            if on_done is not None:
                on_done(one, wrong)
            if patience and in_a_row == patience:
                raise InputError(
                    f"Expected series from the store, got {in_a_row} failures in a row; the last: {wrong}",
                    "Check the network; the same command continues.",
                )
    finally:
        write_json_lines(folder / ERRORS_FILE, failed)
    said = tuple(f"{entry['series']} of {entry['patient']}: {entry['wrong']}" for entry in failed)
    return Fetched(len(series) - len(failed), former, said)


def _fetch_one(target: Path, series: Series, store: Store) -> str:
    """Fetches one series; returns what is wrong with it, and then leaves nothing.

    Another run may fetch the same series at the same time: each writes a hidden folder of its own, and the
    first to finish keeps it. What a killed run left is removed.
    """
    partial = target.with_name(f"{partial_prefix(target)}{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        if shutil.disk_usage(partial).free / 1e6 < series.megabytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        store(series, partial)
        wrong = _difference(partial, series)
        if not wrong:
            _keep(partial, target)
        return wrong
    except (OSError, XRay2CTPAError) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise OutputError(
                f"Expected {series.megabytes:.0f} MB of free disk for {series.uid}, got a full disk at "
                f"{target.parents[3]}.",
                "Free some space; the same command continues with the series that are missing.",
            ) from error
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _keep(partial: Path, target: Path) -> None:
    """Gives a whole series its name, unless another run has just done so."""
    try:
        partial.rename(target)
    except OSError:
        if not target.is_dir():
            raise


def _difference(folder: Path, series: Series) -> str:
    """What of number and size of the files is not as the index states; "" for nothing."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    if len(files) != series.images:
        return f"expected {series.images} files, got {len(files)}"
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    if abs(megabytes - series.megabytes) > _SIZE_MB:
        return f"expected {series.megabytes:.2f} MB, got {megabytes:.2f}"
    return ""
