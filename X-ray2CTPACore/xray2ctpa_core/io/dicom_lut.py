"""Lookup tables, rescaling and windows of a DICOM header by PS3.3 C.11.1 and C.11.2.

It does not use pydicom's code, which keeps an index in the data type of the entries (8 bits overflow), does
not support packed entries, and takes the sign of the first mapped value from the value representation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from xray2ctpa_core.io.dicom_header import each_number, is_little_endian, number, text
from xray2ctpa_core.io.greys import has_contrast, hides_image

#: Functions that a VOILUTFunction can name (PS3.3 C.11.2.1.2 and C.11.2.1.3).
_LINEAR, _EXACT, _SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
#: Exceptions from accessing or decoding a malformed element.
MALFORMED = (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError)
_ALL_ENTRIES = 1 << 16


@dataclass(frozen=True)
class LookupTable:
    """Greys for stored values.

    Attributes:
        first: value that the first entry stands for.
        entries: (N,) whole numbers; values beyond an end get the entry at that end.
    """

    first: int
    entries: np.ndarray

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """``values`` of any real dtype and shape, looked up; linear between whole numbers."""
        last = len(self.entries) - 1
        if np.issubdtype(values.dtype, np.integer):
            return self.entries[np.clip(values.astype(np.int64) - self.first, 0, last)]
        return np.interp(values, self.first + np.arange(last + 1), self.entries)


def lookup_table(item: Dataset, values: np.ndarray, little_endian: bool = True) -> LookupTable:
    """The table in an ``item`` of a Modality or VOI LUT Sequence.

    Entries of 8 bits occupy one byte (two per word) or one word each; the elements may be US, SS, OW or,
    from 64 kB on, UN. The first mapped value is read with the sign with which the table covers ``values``.

    Raises:
        ValueError: another number of entries than the descriptor announces.
    """
    count, first, bits = _words(item["LUTDescriptor"].value, little_endian)[:3].tolist()
    count = count or _ALL_ENTRIES
    data = item["LUTData"].value
    if isinstance(data, bytes | bytearray):
        entries = _of_bytes(bytes(data), count, bits, little_endian)
    else:
        entries = _words(data, little_endian)
        if bits <= 8 and len(entries) == -(-count // 2) < count:
            entries = entries.astype("<u2").view(np.uint8)
    if len(entries) < count:
        raise ValueError(f"it has {len(entries)} entries, {count} are announced")
    low, high = float(np.min(values)), float(np.max(values))
    starts = sorted({first, first - _ALL_ENTRIES if first >= _ALL_ENTRIES // 2 else first}, reverse=True)
    covered = [min(high, start + count - 1) - max(low, start) for start in starts]
    return LookupTable(starts[int(np.argmax(covered))], np.ascontiguousarray(entries[:count]))


def _words(value: Any, little_endian: bool) -> np.ndarray:
    """(N,) uint16 of an element that holds one or several whole numbers, or their bytes (UN)."""
    if isinstance(value, bytes | bytearray):
        return np.frombuffer(bytes(value), "<u2" if little_endian else ">u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(value, dtype=np.int64)) & 0xFFFF).astype(np.uint16)


def _of_bytes(data: bytes, count: int, bits: int, little_endian: bool) -> np.ndarray:
    """(>= count,) entries in words if there are that many, else in bytes."""
    if len(data) >= 2 * count:
        return _words(data[: 2 * count], little_endian)
    if len(data) < count or (bits > 8 and len(data) > count + 1):
        raise ValueError(f"it has {len(data) // (1 if bits <= 8 else 2)} entries, {count} are announced")
    if len(data) % 2 == 0 and not little_endian:  # two entries per word, the first in the lower byte
        return np.frombuffer(data, ">u2").astype("<u2").view(np.uint8)
    return np.frombuffer(data, np.uint8)


def modality_values(values: np.ndarray, dataset: Dataset, notes: list[str], steps: list[str]) -> np.ndarray:
    """``values`` through the modality LUT, or rescaled; ``steps`` gets a description, ``notes`` gets the
    doubts."""
    sequence = _items(dataset, "ModalityLUTSequence", notes)
    if sequence:
        try:
            table = lookup_table(sequence[0], values, is_little_endian(dataset))
            steps.append(f"modality LUT of {len(table.entries)} entries")
            return table(values)
        except MALFORMED as error:
            notes.append(f"The modality LUT is malformed ({_reason(error)}); it was not applied.")
    slope, intercept = rescaling(dataset, notes)
    if (slope, intercept) == (1.0, 0.0):
        return values
    steps.append(f"rescaled by {slope:g} and {intercept:g}")
    return values.astype(np.float64) * slope + intercept


def rescaling(dataset: Dataset, notes: list[str]) -> tuple[float, float]:
    """RescaleSlope and RescaleIntercept; a slope of 0 is ignored, and malformed values become 1 and 0."""
    pair = []
    for keyword, default in (("RescaleSlope", 1.0), ("RescaleIntercept", 0.0)):
        value = number(dataset, keyword)
        if value is None and text(dataset, keyword) not in ("", "NONE"):
            notes.append(f"The {keyword} is malformed; it was taken as {default:g}.")
        pair.append(default if value is None else value)
    if pair[0] == 0.0:
        notes.append("A RescaleSlope of 0 would make every pixel one grey; it was taken as 1.")
        pair[0] = 1.0
    return pair[0], pair[1]


def presentation_values(
    values: np.ndarray, dataset: Dataset, notes: list[str], steps: list[str], counted: np.ndarray | None
) -> np.ndarray:
    """``values`` through the first VOI LUT, or else the first window.

    It is not applied if it leaves a single grey, or hardly any greys but black and white, among the pixels
    ``counted`` (bool, None for all).
    """
    for apply in (_through_voi_lut, _through_window):
        try:
            seen, step = apply(values, dataset)
        except MALFORMED as error:
            notes.append(f"The VOI LUT or window is malformed ({_reason(error)}); it was not applied.")
            continue
        if seen is None:
            continue
        before, after = (array if counted is None else array[counted] for array in (values, seen))
        if not _has_contrast(before) or (_has_contrast(after) and not hides_image(after, before)):
            steps.append(step)
            function = text(dataset, "VOILUTFunction")
            if apply is _through_window and function not in ("", _LINEAR, _EXACT, _SIGMOID):
                notes.append(f"The VOILUTFunction {function} is unknown; the window was taken as {_LINEAR}.")
            return seen
        said = "nearly everything black or white" if _has_contrast(after) else "one grey"
        notes.append(f"The VOI LUT or window leaves {said}; the full range was read instead.")
    return values


def _has_contrast(values: np.ndarray) -> bool:
    return bool(values.size) and has_contrast(values)


def _through_voi_lut(values: np.ndarray, dataset: Dataset) -> tuple[np.ndarray | None, str]:
    sequence = dataset.get("VOILUTSequence")
    if not sequence:
        return None, ""
    table = lookup_table(sequence[0], values, is_little_endian(dataset))
    return table(values), f"VOI LUT of {len(table.entries)} entries"


def _through_window(values: np.ndarray, dataset: Dataset) -> tuple[np.ndarray | None, str]:
    """The first valid window in [0, 1], by the function that VOILUTFunction names (PS3.3 C.11.2.1.2 and
    C.11.2.1.3)."""
    if dataset.get("WindowCenter") in (None, "") or dataset.get("WindowWidth") in (None, ""):
        return None, ""
    function = text(dataset, "VOILUTFunction")
    if function not in (_EXACT, _SIGMOID):
        function = _LINEAR
    least = 1 if function == _LINEAR else 1e-12
    pairs = list(zip(*(each_number(dataset, f"Window{end}") for end in ("Center", "Width")), strict=False))
    valid = [(c, w) for c, w in pairs if c is not None and w is not None and w >= least]
    if not valid:
        raise ValueError(f"centre {dataset.WindowCenter}, width {dataset.WindowWidth}")
    centre, width = valid[0]
    greys = values.astype(np.float64)
    step = f"window {centre:g}/{width:g}" + (", the first valid one" if valid[0] != pairs[0] else "")
    if function == _SIGMOID:
        return 1 / (1 + np.exp(np.clip(-4 * (greys - centre) / width, -60, 60))), f"sigmoid {step}"
    if function == _LINEAR:
        centre, width = centre - 0.5, max(width - 1, 1e-3)
    return np.clip((greys - centre) / width + 0.5, 0.0, 1.0), step


def p_values(
    seen: np.ndarray, dataset: Dataset, notes: list[str], steps: list[str]
) -> tuple[np.ndarray, bool]:
    """``seen`` through the presentation LUT (PS3.3 C.11.6), whose entries are bright where the display is to
    be, and whether there is one: MONOCHROME1 and an INVERSE shape do not count then.

    Its first entry stands for the lowest of the values ``seen`` and its last one for the highest.
    """
    sequence = _items(dataset, "PresentationLUTSequence", notes)
    if not sequence:
        return seen, False
    try:
        table = lookup_table(sequence[0], np.zeros(1), is_little_endian(dataset))
        entries = table.entries.astype(np.float64)
        if len(entries) < 2 or entries[0] == entries[-1]:
            raise ValueError(f"its {len(entries)} entries end as they begin")
        low, high = float(np.min(seen)), float(np.max(seen))
        steps.append(f"presentation LUT of {len(entries)} entries")
        places = np.linspace(low, high, len(entries))
        return np.interp(seen, places, entries) if high > low else seen, True
    except MALFORMED as error:
        notes.append(f"The presentation LUT is malformed ({_reason(error)}); it was not applied.")
        return seen, False


def _items(dataset: Dataset, keyword: str, notes: list[str]) -> list[Dataset]:
    try:
        return list(dataset.get(keyword) or [])
    except MALFORMED as error:
        notes.append(f"The {keyword} is malformed ({_reason(error)}); it was not applied.")
        return []


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__
