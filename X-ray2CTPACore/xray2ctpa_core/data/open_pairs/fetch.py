"""Series of the selected pairs, brought onto this disk: each checked, each written whole or not at all."""

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.data.open_pairs.pairs import Pair
from xray2ctpa_core.data.open_pairs.series import Series
from xray2ctpa_core.errors import OutputError, XRay2CTPAError

DICOM_FOLDER, ERRORS_FILE = "dicom", "fetch-errors.jsonl"
#: A series may differ by so much from the size that the index states: of the whole, and in MB for small ones.
_SIZE_SHARE, _SIZE_MB = 0.05, 0.1

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
    return folder / DICOM_FOLDER / series.collection / series.patient / series.uid


def needed_series(pairs: Iterable[Pair], alternatives: int = 2) -> list[Series]:
    """The CT, the radiograph and at most ``alternatives`` other radiographs of each pair, each series
    once."""
    found: dict[str, Series] = {}
    for pair in pairs:
        for series in (pair.ct, pair.radiograph, *pair.others[:alternatives]):
            found.setdefault(series.uid, series)
    return list(found.values())


def missing_megabytes(folder: Path, series: Iterable[Series]) -> float:
    """What is not on this disk yet, in MB."""
    return sum(one.megabytes for one in series if not series_folder(folder, one).is_dir())


def fetch_series(
    folder: Path,
    series: Sequence[Series],
    store: Store,
    on_done: Callable[[Series, str], None] | None = None,
) -> Fetched:
    """Fetches what is not there yet; a series that fails is logged in ERRORS_FILE and the others go on.

    Args:
        folder: of the cohort.
        series: to fetch.
        store: where from.
        on_done: called with each series and what was wrong with it, "" for nothing.

    Raises:
        OutputError: the disk has not enough room for what is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    needed, free = missing_megabytes(folder, series), shutil.disk_usage(folder).free / 1e6
    if needed > free:
        raise OutputError(
            f"Expected {needed:.0f} MB of free disk at {folder}, got {free:.0f} MB.",
            "Free some space, choose another folder, or select fewer pairs.",
        )
    former, failed = 0, []
    for one in series:
        target = series_folder(folder, one)
        if target.is_dir():
            former += 1
            continue
        wrong = _fetch_one(target, one, store)
        if wrong:
            failed.append(
                {"series": one.uid, "patient": one.patient, "collection": one.collection, "wrong": wrong}
            )
        if on_done is not None:
            on_done(one, wrong)
    text = "".join(json.dumps(entry) + "\n" for entry in failed)
    write_text_atomically(folder / ERRORS_FILE, text)
    said = tuple(f"{entry['series']} of {entry['patient']}: {entry['wrong']}" for entry in failed)
    return Fetched(len(series) - len(failed), former, said)


def _fetch_one(target: Path, series: Series, store: Store) -> str:
    """Fetches one series; returns what is wrong with it, and then leaves nothing."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        store(series, partial)
        wrong = _difference(partial, series)
        if not wrong:
            partial.rename(target)
        return wrong
    except (OSError, XRay2CTPAError) as error:
        return f"{type(error).__name__}: {error}"
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _difference(folder: Path, series: Series) -> str:
    """What of number and size of the files is not as the index states; "" for nothing."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    if len(files) != series.images:
        return f"expected {series.images} files, got {len(files)}"
    megabytes = sum(file.stat().st_size for file in files) / 1e6
    allowed = max(_SIZE_MB, _SIZE_SHARE * series.megabytes)
    if abs(megabytes - series.megabytes) > allowed:
        return f"expected {series.megabytes:.2f} MB, got {megabytes:.2f}"
    return ""
