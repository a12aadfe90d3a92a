"""DICOM files: recognised by their bytes, read with or without preamble, with functional groups copied to
the top level."""

import struct
from pathlib import Path

import pydicom
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.dicom_header import integer
from xray2ctpa_core.io.dicom_stream import ITEM, fragments, syntax_of_stream
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.names import RASTER_SIGNATURES

_SUFFIXES = (".dcm", ".dicom", ".dic", ".ima")
_PREAMBLE_BYTES = 128
_HEAD_BYTES = 4096
#: Explicit value representations; those of the second row have a length of four bytes after two reserved.
_SHORT_VRS = b"AE AS AT CS DA DS DT FL FD IS LO LT PN SH SL SS ST TM UI UL US".split()
_LONG_VRS = b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split()
#: Groups with which a data set can begin (file meta, identifying), and the number of elements that must
#: follow.
_FIRST_GROUPS, _CHAINED = (0x0002, 0x0008), 4
_FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
#: Functional groups that describe other images.
_OTHERS = (
    "DerivationImageSequence",
    "ReferencedImageSequence",
    "UnassignedPerFrameConvertedAttributesSequence",
)


def is_dicom(path: Path) -> bool:
    """Whether the bytes are those of DICOM, with or without a preamble (PACS and CD exports), or else the
    suffix is.

    A preamble may look like TIFF. A file without DICOM's prefix that begins like a PNG, JPEG or TIFF is no
    DICOM.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not is_marked(head) and head.startswith(RASTER_SIGNATURES):
        return False
    return is_marked(head) or path.suffix.lower() in _SUFFIXES or _begins_with_elements(head)


def is_marked(head: bytes) -> bool:
    """Whether DICOM's prefix follows a preamble at the start of a file, ``head``."""
    return head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"


def read_dicom(path: Path, pixels: bool = True, notes: list[str] | None = None) -> Dataset:
    """The data set of ``path``, with the elements of its functional groups for the (first) frame at its top
    level, and decimal commas as points.

    Args:
        path: the file.
        pixels: False leaves the pixels out.
        notes: takes sentences on decimal commas and on pixels that are not in the transfer syntax, if given.

    Raises:
        InputError: the file is no DICOM.
    """
    with reading(path, "DICOM"):
        dataset = pydicom.dcmread(path, stop_before_pixels=not pixels, force=True)
        if "SOPClassUID" not in dataset and "Rows" not in dataset:
            raise InputError(
                f"Expected a DICOM file, got {path.name}, which has no DICOM header.",
                "Check that the file is complete and that its name fits its content.",
            )
        doubts = _name_syntax(dataset)
        mended = _mend_decimals(dataset)
        if mended:
            doubts.append(f"Decimal commas were read as points: {', '.join(dict.fromkeys(mended))}.")
        if notes is not None:
            notes.extend(doubts)
        _lay_flat(dataset)
        return dataset


def _name_syntax(dataset: "pydicom.FileDataset") -> list[str]:
    """Sets the transfer syntax that was found, if the file has no meta group that names it, or if its pixels
    are compressed in another way than it says; a sentence on the latter."""
    if hasattr(dataset, "original_encoding"):
        implicit, little_endian = dataset.original_encoding
    else:  # pydicom 2
        implicit, little_endian = dataset.is_implicit_VR, dataset.is_little_endian
    plain = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    plain = plain if little_endian else ExplicitVRBigEndian
    said = UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    dataset.file_meta.TransferSyntaxUID = said or plain
    pixels = dataset.get("PixelData")
    if not pixels or (said and not said.is_transfer_syntax):
        return []
    is_encapsulated = dataset["PixelData"].is_undefined_length and pixels[:4] == ITEM
    if is_encapsulated == (said or plain).is_encapsulated:
        return []
    found = syntax_of_stream(b"".join(fragments(pixels)[:1])) if is_encapsulated else plain
    if found is None:
        return []
    dataset.file_meta.TransferSyntaxUID = found
    header = (
        f"The header says the transfer syntax {said.name}" if said else "The header names no transfer syntax"
    )
    pixels_are = f"compressed ({found.name})" if is_encapsulated else "not compressed"
    return [f"{header}; the pixels are {pixels_are}, and were read so."]


def frame_header(dataset: Dataset, frame: int) -> Dataset:
    """The header of one frame: a copy of ``dataset`` with the elements of the frame's own functional groups
    at the top level; ``dataset`` itself if it has none.

    Args:
        dataset: of ``read_dicom``.
        frame: from 0.
    """
    groups = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    if frame >= len(groups):
        return dataset
    header = Dataset()  # a copy of a FileDataset shares its elements
    header.update(dataset)
    _copy_elements(groups[frame], header)
    return header


def _lay_flat(dataset: Dataset) -> None:
    """Copies the elements of shared functional groups, then of a single frame's own, to the top level.

    Enhanced objects keep spacing, rescaling, window, shutter and position there (PS3.3 C.7.6.16); the groups
    take precedence over an element of the same name outside.
    """
    single = integer(dataset, "NumberOfFrames", 1) == 1
    for keyword in _FUNCTIONAL_GROUPS if single else _FUNCTIONAL_GROUPS[:1]:
        for groups in list(dataset.get(keyword) or [])[:1]:
            _copy_elements(groups, dataset)


def _mend_decimals(dataset: Dataset) -> list[str]:
    """Makes decimal commas of decimal strings points, in functional groups, too; keywords of the elements."""
    mended = []
    for tag in list(dataset.keys()):
        raw = dataset.get_item(tag)  # an element that pydicom has not converted yet: it refuses commas
        if not isinstance(raw, RawDataElement):
            continue
        vr = dictionary_VR(tag) if raw.VR in (None, "UN") and dictionary_has_tag(tag) else raw.VR
        if vr != "DS" or b"," not in (raw.value or b""):
            continue
        numbers = raw.value.split(b"\\")
        if all(number.count(b",") + number.count(b".") <= 1 for number in numbers):
            dataset[tag] = raw._replace(value=raw.value.replace(b",", b"."))
            mended.append(keyword_for_tag(tag))
    for keyword in _FUNCTIONAL_GROUPS:
        items = (item for groups in dataset.get(keyword) or [] for group in groups for item in _items(group))
        mended.extend(keyword for item in items for keyword in _mend_decimals(item))
    return mended


def _items(element: DataElement) -> list[Dataset]:
    return list(element.value or []) if element.VR == "SQ" else []


def _copy_elements(groups: Dataset, target: Dataset) -> None:
    """Copies the elements of the functional ``groups`` of an image to ``target``."""
    for group in groups:
        if group.VR != "SQ" or group.keyword in _OTHERS or not group.value:
            continue
        for element in group.value[0]:
            if not element.is_empty:
                target[element.tag] = element


def _begins_with_elements(head: bytes) -> bool:
    """Whether ``head`` is a chain of data elements in rising order that begins a DICOM data set."""
    return any(_chain(head, order) for order in ("<", ">"))


def _chain(head: bytes, order: str) -> bool:
    place, former = 0, Tag(0, 0)
    for number in range(_CHAINED):
        if place + 8 > len(head):
            return False
        group, element = struct.unpack_from(order + "HH", head, place)
        tag, vr = Tag(group, element), head[place + 4 : place + 6]
        if tag <= former or (number == 0 and group not in _FIRST_GROUPS):
            return False
        if vr in _SHORT_VRS:
            length, start = struct.unpack_from(order + "H", head, place + 6)[0], place + 8
        elif vr in _LONG_VRS and place + 12 <= len(head):
            length, start = struct.unpack_from(order + "I", head, place + 8)[0], place + 12
        else:
            length, start = struct.unpack_from(order + "I", head, place + 4)[0], place + 8
        if length == 0xFFFFFFFF or (number and start + length > len(head)):
            return number > 1  # a sequence or a long value: the elements before it must suffice
        place, former = start + length, tag
    return True
