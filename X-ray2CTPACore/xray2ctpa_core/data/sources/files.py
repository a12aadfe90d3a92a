"""Finds the file or folder that a table names without its suffix."""

from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.names import VOLUME_SUFFIXES

RADIOGRAPH_SUFFIXES = (".dcm", ".png", ".jpg", ".jpeg", ".tif", ".tiff", *VOLUME_SUFFIXES)


def named_file(folder: Path, name: str, suffixes: tuple[str, ...], where: str) -> Path:
    """``folder``/``name`` if it exists, else the existing file of that name with one of ``suffixes``.

    Args:
        folder: folder of the data set.
        name: file or folder of DICOM files as named in the table, with or without suffix, or absolute path.
        suffixes: tried in order.
        where: table and row, for messages.

    Returns:
        The existing path; ``folder``/``name`` where there is none (`check_studies` then raises an error).

    Raises:
        InputError: several exist.
    """
    found = [path for path in (folder / (name + suffix) for suffix in ("", *suffixes)) if path.exists()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(f"Expected one file for {name} ({where}), got {names} in {folder}.")
    return found[0] if found else folder / name


def without_suffix(name: str, suffixes: tuple[str, ...] = VOLUME_SUFFIXES) -> str:
    """``name`` without the one of ``suffixes`` it ends with."""
    return next((name[: -len(suffix)] for suffix in suffixes if name.lower().endswith(suffix)), name)
