"""Drawing of the triage workflow: boxes and arrows, those on this case's way emphasised."""

import itertools
import math
from collections.abc import Mapping
from typing import Any

import qt
from slicer.i18n import tr as _

from xray2ctpa_core.triage.workflow import ARROWS, BESIDE, BOXES, TRIAGE_NOTICE, Way

COLUMNS, ROWS = 3, 5
#: Height of a row and of a box in pixels, a box's share of its column, height of the notice.
ROW, BOX, WIDE, NOTICE_HEIGHT = 70, 38, 0.92, 34
#: Height of letters and length of an arrow's head in pixels.
LETTERS, HEAD = 11, 8
#: Pens for what is on the way, and for the rest; their colours are visible in both palettes.
ON_WAY, OFF_WAY = ("#d9822b", 3), ("#8c8c8c", 1)


def draw(way: Way, width: int, palette: Any, texts: Mapping[str, str]) -> Any:
    """A QPixmap of ``width`` pixels.

    Args:
        way: of the case.
        width: in pixels.
        palette: of the widget that shows it.
        texts: of the BOXES, by their names.
    """
    pixmap = qt.QPixmap(width, ROWS * ROW + NOTICE_HEIGHT)
    pixmap.fill(palette.color(qt.QPalette.Window))
    painter = qt.QPainter()
    painter.begin(pixmap)
    font = qt.QFont()
    font.setPixelSize(LETTERS)
    painter.setFont(font)
    ink, paper = palette.color(qt.QPalette.WindowText), palette.color(qt.QPalette.Window)
    steps = set(itertools.pairwise(way.boxes))
    _pen(painter, False, qt.Qt.DotLine)
    painter.drawLine(*_middle(width, BESIDE[0]), *_middle(width, BESIDE[1]))
    for first, second, text in sorted(ARROWS, key=lambda arrow: arrow[:2] in steps):
        _arrow(painter, width, first, second, (first, second) in steps)
        if text:
            _label(painter, width, first, second, text, ink, paper)
    for name, (_text, column, row) in BOXES.items():
        _pen(painter, name in way.boxes)
        left, top, across = _box(width, column, row)
        painter.fillRect(left, top, across, BOX, palette.color(qt.QPalette.Base))
        painter.drawRect(left, top, across, BOX)
        painter.setPen(qt.QPen(ink))
        painter.drawText(left, top, across, BOX, qt.Qt.AlignCenter, _(texts[name]))
    painter.setPen(qt.QPen(ink))
    flags = qt.Qt.AlignCenter | qt.Qt.TextWordWrap
    painter.drawText(4, ROWS * ROW, width - 8, NOTICE_HEIGHT, flags, _(TRIAGE_NOTICE))
    painter.end()
    return pixmap


def _box(width: int, column: int, row: int) -> tuple[int, int, int]:
    """(left, top, width) of a box in pixels."""
    across = width / COLUMNS
    margin = across * (1 - WIDE) / 2
    return round(column * across + margin), row * ROW + (ROW - BOX) // 2, round(across * WIDE)


def _middle(width: int, name: str) -> tuple[int, int]:
    left, top, across = _box(width, *BOXES[name][1:])
    return left + across // 2, top + BOX // 2


def _arrow(painter: Any, width: int, first: str, second: str, onWay: bool) -> None:
    """A line from box to box with a head at the edge of the second; the boxes are drawn over its ends."""
    _pen(painter, onWay)
    (x1, y1), (x2, y2) = _middle(width, first), _middle(width, second)
    painter.drawLine(x1, y1, x2, y2)
    half = _box(width, 0, 0)[2] / 2 + 2, BOX / 2 + 2
    # Distance of the second box's edge from its middle, as a share of the line.
    part = min(side / max(abs(a - b), 1e-6) for side, a, b in zip(half, (x1, y1), (x2, y2), strict=True))
    tip = x2 + (x1 - x2) * part, y2 + (y1 - y2) * part
    towards = math.atan2(y1 - y2, x1 - x2)
    for turn in (-0.45, 0.45):
        end = tip[0] + HEAD * math.cos(towards + turn), tip[1] + HEAD * math.sin(towards + turn)
        painter.drawLine(round(tip[0]), round(tip[1]), round(end[0]), round(end[1]))


def _label(painter: Any, width: int, first: str, second: str, text: str, ink: Any, paper: Any) -> None:
    """A label at the middle of an arrow, on a patch that hides the line."""
    (x1, y1), (x2, y2) = _middle(width, first), _middle(width, second)
    across, high = 7 * len(text) + 4, LETTERS + 4
    left, top = (x1 + x2 - across) // 2, (y1 + y2 - high) // 2
    painter.fillRect(left, top, across, high, paper)
    painter.setPen(qt.QPen(ink))
    painter.drawText(left, top, across, high, qt.Qt.AlignCenter, _(text))


def _pen(painter: Any, onWay: bool, style: Any = qt.Qt.SolidLine) -> None:
    colour, thickness = ON_WAY if onWay else OFF_WAY
    pen = qt.QPen(qt.QColor(colour))
    pen.setWidth(thickness)
    pen.setStyle(style)
    painter.setPen(pen)
