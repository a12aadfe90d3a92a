"""The data sets, and the one function that reads any of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from xray2ctpa_core.data.settings import StudySource
from xray2ctpa_core.data.sources.ct_rate import read_ct_rate
from xray2ctpa_core.data.sources.folder import read_folder
from xray2ctpa_core.data.sources.inspect_ctpa import read_inspect
from xray2ctpa_core.data.sources.lidc import read_lidc
from xray2ctpa_core.data.sources.papers import read_papers
from xray2ctpa_core.data.sources.rspect import read_rspect
from xray2ctpa_core.data.sources.study import Study, with_drawn_splits
from xray2ctpa_core.errors import ConfigError

#: Reader of each data set; settings that it requires, and optional ones, beside root and check_files.
_READERS: dict[str, tuple[Callable[..., list[Study]], tuple[str, ...], tuple[str, ...]]] = {
    "rspect": (read_rspect, ("table",), ("indeterminate_as_pe",)),
    "lidc": (read_lidc, ("table",), ()),
    "inspect": (read_inspect, (), ("table", "label")),
    "ct-rate": (read_ct_rate, ("table",), ("metadata", "label")),
    "papers": (read_papers, ("table",), ("radiographs",)),
    "folder": (read_folder, (), ("table", "radiographs")),
}
_PATHS = ("table", "radiographs", "metadata")


def read_studies(source: StudySource) -> list[Study]:
    """The studies that ``source`` describes, checked, in order.

    Raises:
        ConfigError: an unknown data set, a missing setting, or one that the data set does not use.
        InputError: as in the data set's reader.
    """
    if source.dataset not in _READERS:
        raise ConfigError(f"Expected a dataset out of {', '.join(_READERS)}, got {source.dataset!r}.")
    reader, needed, optional = _READERS[source.dataset]
    given: dict[str, Any] = {
        name: getattr(source, name)
        for name in (*_PATHS, "label", "indeterminate_as_pe")
        if getattr(source, name)
    }
    missing = [name for name in needed if name not in given]
    unread = [name for name in given if name not in needed + optional]
    if missing or unread or source.studies < 0:
        raise ConfigError(
            f"The data set {source.dataset} needs {', '.join(needed) or 'no table'} and may have "
            f"{', '.join(optional) or 'nothing else'}; got {', '.join(given) or 'none'}, and studies="
            f"{source.studies}.",
            "Set the missing settings and leave out the others.",
        )
    arguments = {name: Path(value) if name in _PATHS else value for name, value in given.items()}
    studies = reader(Path(source.root), **arguments, check_files=source.check_files)
    taken = studies[: source.studies or None]
    return with_drawn_splits(taken) if source.drawn_splits else taken
