"""LZW of TIFF (TIFF 6.0, section 13), for pages that Pillow would reduce to 8 bits.

tifffile leaves this compression to imagecodecs, a package of the size of the rest; this code takes some
seconds for a radiograph in 16-bit colour.
"""

import importlib.util

import tifffile

#: Number of this compression in a TIFF.
LZW = 5
_CLEAR, _END = 256, 257


def teach_tifffile() -> None:
    """Lets tifffile decode LZW if imagecodecs is not installed, as far as its version allows."""
    codecs = getattr(tifffile.TIFF.DECOMPRESSORS, "_codecs", None)
    if isinstance(codecs, dict) and importlib.util.find_spec("imagecodecs") is None:
        codecs.setdefault(LZW, decode_lzw)


def decode_lzw(data: bytes, out: object = None) -> bytes:  # noqa: ARG001 - tifffile names the size it expects
    """The bytes of the LZW codes in ``data``: codes of 9 to 12 bits, highest bit first.

    Raises:
        ValueError: a code that is not yet defined.
    """
    roots = [bytes((value,)) for value in range(256)] + [b"", b""]
    table, width, former = roots.copy(), 9, b""
    pieces: list[bytes] = []
    buffer = held = 0
    for byte in data:
        buffer, held = (buffer << 8) | byte, held + 8
        if held < width:
            continue
        held -= width
        code, buffer = buffer >> held, buffer & ((1 << held) - 1)
        if code == _CLEAR:
            table, width, former = roots.copy(), 9, b""
            continue
        if code == _END:
            break
        if code < len(table):
            piece = table[code]
        elif code == len(table) and former:
            piece = former + former[:1]
        else:
            raise ValueError(f"LZW code {code} is not defined")
        if former:
            table.append(former + piece[:1])
        pieces.append(piece)
        former = piece
        if len(table) >= (1 << width) - 1 and width < 12:  # one code early, as every writer does
            width += 1
    return b"".join(pieces)
