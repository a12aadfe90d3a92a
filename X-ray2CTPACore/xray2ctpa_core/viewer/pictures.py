"""Pictures of planes that were drawn before, kept as long as there is room for them."""

from collections import OrderedDict
from collections.abc import Hashable

#: Bytes that the pictures of one result may take: all slices of a comparison in views of a usual size.
MAX_BYTES = 32 << 20


class Pictures:
    """Encoded pictures by what they show; the one that was longest not asked for goes first.

    Args:
        max_bytes: of all pictures together.

    Attributes:
        kept: how many have been kept so far, those that have gone included.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self.kept = 0
        self._pictures: OrderedDict[Hashable, bytes] = OrderedDict()

    def find(self, key: Hashable) -> bytes | None:
        """The picture of ``key``; None where there is none any more."""
        if key not in self._pictures:
            return None
        self._pictures.move_to_end(key)
        return self._pictures[key]

    def keep(self, key: Hashable, picture: bytes) -> None:
        """Keeps a new picture, and lets go of others where there is no room for all."""
        self.kept += 1
        self._bytes += len(picture) - len(self._pictures.pop(key, b""))
        self._pictures[key] = picture
        while self._bytes > self._max_bytes:
            self._bytes -= len(self._pictures.popitem(last=False)[1])
