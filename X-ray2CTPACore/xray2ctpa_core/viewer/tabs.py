"""The browser tabs of one visitor, and the pictures sent to them."""

import io
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from PIL import Image

_JPEG_QUALITY = 92


class Tab(Protocol):
    """A browser tab that receives messages."""

    def tell(self, kind: str, content: Mapping[str, Any]) -> None:
        """Sends a message; a later one of the same kind replaces one that is not sent yet."""

    def show(self, name: str, picture: bytes) -> None:
        """Sends a picture for the view ``name``, likewise."""


class Tabs:
    """All tabs of a visitor. Kept pictures are also sent to later tabs."""

    def __init__(self) -> None:
        self._tabs: set[Tab] = set()
        self._kept: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._tabs)

    def add(self, tab: Tab) -> None:
        self._tabs.add(tab)
        for name, picture in self._kept.items():
            tab.show(name, picture)

    def remove(self, tab: Tab) -> None:
        self._tabs.discard(tab)

    def tell(self, kind: str, content: Mapping[str, Any]) -> None:
        for tab in self._tabs:
            tab.tell(kind, content)

    def show(self, name: str, picture: bytes, keep: bool = False) -> None:
        if keep:
            self._kept[name] = picture
        for tab in self._tabs:
            tab.show(name, picture)

    def forget(self, *names: str) -> None:
        """Forgets these pictures; without names, all."""
        for name in names or list(self._kept):
            self._kept.pop(name, None)


def jpeg(pixels: np.ndarray) -> bytes:
    """(H, W, 3) or (H, W) uint8 as JPEG without colour subsampling."""
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return packed.getvalue()
