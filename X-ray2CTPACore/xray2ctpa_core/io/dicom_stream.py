"""Encapsulated pixels of DICOM files: their fragments, and the compression that their own bytes show."""

from pydicom.uid import UID

#: Tag of an item, as the fragments begin with (PS3.5, A.4).
ITEM = b"\xfe\xff\x00\xe0"
_JPEG, _JPEG_2000 = b"\xff\xd8", b"\xff\x4f\xff\x51"
#: JPEG markers that say how a frame is coded -> transfer syntax that decodes it.
_OF_JPEG_FRAME = {
    0xC0: "1.2.840.10008.1.2.4.50",  # baseline
    0xC1: "1.2.840.10008.1.2.4.51",  # extended, 12 bit
    0xC3: "1.2.840.10008.1.2.4.57",  # lossless
    0xF7: "1.2.840.10008.1.2.4.81",  # JPEG-LS, with a loss or without
}
_JPEG_2000_SYNTAX, _RLE_SYNTAX = "1.2.840.10008.1.2.4.91", "1.2.840.10008.1.2.5"
_RLE_HEADER, _MOST_RLE_SEGMENTS = 64, 15


def fragments(encapsulated: bytes) -> list[bytes]:
    """The fragments of ``encapsulated`` pixels, without the table of offsets; none of other bytes."""
    items, place = [], 0
    while encapsulated[place : place + 4] == ITEM:
        end = place + 8 + int.from_bytes(encapsulated[place + 4 : place + 8], "little")
        items.append(encapsulated[place + 8 : end])
        place = end
    return items[1:]


def syntax_of_stream(frame: bytes) -> UID | None:
    """The transfer syntax that decodes a compressed ``frame``; None of an unknown compression."""
    if frame.startswith(_JPEG_2000):
        return UID(_JPEG_2000_SYNTAX)
    if frame.startswith(_JPEG):
        return _of_jpeg(frame)
    segments, first = (int.from_bytes(frame[n : n + 4], "little") for n in (0, 4))
    if 1 <= segments <= _MOST_RLE_SEGMENTS and first == _RLE_HEADER and len(frame) > _RLE_HEADER:
        return UID(_RLE_SYNTAX)
    return None


def _of_jpeg(frame: bytes) -> UID | None:
    """By the marker of the frame's header, which other segments, with their lengths, may precede."""
    place = len(_JPEG)
    while frame[place : place + 1] == b"\xff":
        marker = frame[place + 1]
        if marker in _OF_JPEG_FRAME:
            return UID(_OF_JPEG_FRAME[marker])
        place += 2 + int.from_bytes(frame[place + 2 : place + 4], "big")
    return None
