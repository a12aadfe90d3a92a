"""A radiograph from a browser: its name made harmless, size and kind checked while and after it arrives."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io import names
from xray2ctpa_core.io.dicom_file import is_dicom
from xray2ctpa_core.io.grid_file import is_grid_file
from xray2ctpa_core.io.raster import is_raster
from xray2ctpa_core.io.result_folder import writing

MAX_BYTES = 50 << 20
#: Forms of one file each; headers that name another file for the voxels (.mhd, .nhdr) are none.
SUFFIXES = tuple(suffix for suffix in names.SUFFIXES if suffix not in names.DETACHED_SUFFIXES)
#: Seconds that one upload may take, and that nothing may arrive; a lost connection need not be noticed.
SECONDS, PAUSE_SECONDS = 300.0, 20.0
_NAME_BYTES = 120
_PAIR = (*names.PAIR_SUFFIXES, *names.PAIR_SUFFIXES.values())
_HEADER_BYTES = 1 << 16
_DATA_ELSEWHERE = re.compile(rb"^\s*(?:elementdatafile\s*[=:](?!\s*local\s*$)|data ?file\s*:)", re.I | re.M)


class TooLarge(InputError):
    """More bytes than a radiograph may have."""

    def __init__(self, got: int | None = None) -> None:
        size = "more" if got is None else f"{-(-got >> 20)} MB"
        super().__init__(
            f"Expected a radiograph of at most {MAX_BYTES >> 20} MB, got {size}.",
            "Export it as PNG, or name the file on the command line: xray2ctpa view FILE.",
        )


def safe_name(name: str) -> str:
    """The last part of a name, without what could lead elsewhere or be read as something else."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = re.sub(r"[^\w.() -]", "_", last).strip(" .-")
    while len(kept.encode()) > _NAME_BYTES:
        kept = kept[1:]
    return kept.lstrip(" .-") or "radiograph"


def stored_name(name: str) -> str:
    """What the file is called on disk, where other users may read names, which may be a person's."""
    suffix = names.suffix_of(name)
    return f"radiograph{suffix if suffix in SUFFIXES or suffix in _PAIR else ''}"


def header_bytes(announced: str) -> int:
    """Bytes of a pair's header as a browser announces them; 0 for any other text."""
    is_number = announced.isdecimal() and len(announced) <= len(str(MAX_BYTES))
    return int(announced) if is_number else 0


async def receive(
    chunks: AsyncIterator[bytes], name: str, announced: int | None, folder: Path, header: int = 0
) -> Path:
    """Writes an upload to the new folder ``folder`` and checks what it is.

    Args:
        chunks: the body.
        name: as the browser says; only its ending is used.
        announced: bytes that the browser announces, or None.
        folder: private to one visitor.
        header: of a pair (.hdr and .img, sent one after the other under the name of the first), bytes of the
            first; 0 of a single file.

    Returns:
        The file.

    Raises:
        TooLarge: from the announcement, or as soon as it is true.
        InputError: another kind of file.
        OutputError: no room, or it broke off or took too long.
    """
    if announced is not None and announced > MAX_BYTES:
        raise TooLarge(announced)
    path = folder / stored_name(name)
    received = 0
    with writing(folder):
        folder.mkdir(mode=0o700)
        with path.open("xb") as file:
            try:
                async with asyncio.timeout(SECONDS), asyncio.timeout(PAUSE_SECONDS) as pause:
                    async for chunk in chunks:
                        received += len(chunk)
                        if received > MAX_BYTES:
                            raise TooLarge
                        file.write(chunk)
                        pause.reschedule(asyncio.get_running_loop().time() + PAUSE_SECONDS)
            except TimeoutError as error:
                raise OutputError(
                    f"The upload took more than {SECONDS:.0f} s, or nothing came for {PAUSE_SECONDS:.0f} s.",
                    "Try again.",
                ) from error
    if announced is not None and received < announced:
        raise OutputError("The upload broke off.", "Try again.")
    _divide(path, header)
    check_kind(path)
    return path


def _divide(path: Path, header: int) -> None:
    """Makes two files of a pair that was sent as one; raises InputError for half a pair."""
    suffix = names.suffix_of(path.name)
    if suffix not in _PAIR:
        return
    content = path.read_bytes()
    if suffix not in names.PAIR_SUFFIXES or not 0 < header < len(content):
        raise InputError(
            f"Expected header and data file of a pair, got {path.name} alone.",
            "Choose .hdr and .img together.",
        )
    with writing(path.parent):
        data = path.name[: -len(suffix)] + names.PAIR_SUFFIXES[suffix]
        path.write_bytes(content[:header])
        path.with_name(data).write_bytes(content[header:])


def check_kind(path: Path) -> None:
    """Raises InputError unless first bytes or suffix are those of a radiograph in one file."""
    if not (is_dicom(path) or is_raster(path) or is_grid_file(path)):
        raise InputError(
            f"Expected DICOM, PNG, JPEG, TIFF, NIfTI, NRRD or MHA, got {path.name}.",
            "Export the radiograph as DICOM or PNG.",
        )
    if is_grid_file(path) and names.suffix_of(path.name) not in _PAIR:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
        if _DATA_ELSEWHERE.search(header):
            raise InputError(
                f"Expected a radiograph in one file, got {path.name}, which takes its pixels from another.",
                "Export it as DICOM or PNG.",
            )
