"""What is worth drawing before it is asked for: the slices beside those looked at, then all others."""

from collections.abc import Iterator

from xray2ctpa_core.viewer.scene import ResultScene
from xray2ctpa_core.viewer.titles import described

#: Slices in the direction of the last step, and where there was none: steps from the present slice.
_ONWARDS, _AROUND = (1, 2, 3, 4, 5, 6, -1, -2), (1, -1, 2, -2, 3, -3, 4, -4)


class Ahead:
    """The slices beside the present one of the plane that was touched last, those scrolled towards first;
    after them the whole of that plane, then of the others, spread ever more densely.

    Args:
        scene: what is shown.

    Attributes:
        touched: the view that was touched or pointed at last; "" at first.
    """

    def __init__(self, scene: ResultScene) -> None:
        self.touched = ""
        self._scene = scene
        self._slices: dict[str, int] = {}
        self._near: list[tuple[str, tuple[float, ...]]] = []
        self._far: list[tuple[str, int]] | None = []  # None: not listed yet, as every wish begins anew

    def __bool__(self) -> bool:
        return bool(self._near) or self._far is None or bool(self._far)

    @property
    def is_near(self) -> bool:
        """Whether what comes next lies beside what is looked at."""
        return bool(self._near)

    def renew(self) -> None:
        """Begins anew from what is shown now."""
        name = self._plane()
        number, former = self._scene.slice_of(name)[0], self._slices.get(name)
        self._slices = {view: self._scene.slice_of(view)[0] for view in self._scene.alike(name)}
        towards = 0 if former is None else number - former
        steps = [step if towards > 0 else -step for step in _ONWARDS] if towards else _AROUND
        places = [self._scene.beside(name, step) for step in steps]
        self._near = [(view, place) for place in places for view in self._scene.alike(name)]
        self._far = None

    def next(self) -> tuple[str, tuple[float, ...]]:
        """The next view and where it is to be cut; it waits no longer."""
        if self._near:
            return self._near.pop(0)
        if self._far is None:
            self._far = self._all_slices()
        name, number = self._far.pop(0)
        return name, self._scene.beside(name, number - self._scene.slice_of(name)[0])

    def stop(self) -> None:
        """Nothing is waited for any more, until ``renew``."""
        self._near, self._far = [], []

    def _all_slices(self) -> list[tuple[str, int]]:
        """(view, number of the slice) of every slice, the touched plane first, views of a plane together."""
        found: dict[tuple[str, int], None] = {}
        for name in [self._plane(), *self._planes()]:
            numbers = _spread(self._scene.slice_of(name)[1])
            found |= dict.fromkeys((view, number) for number in numbers for view in self._scene.alike(name))
        return list(found)

    def _planes(self) -> list[str]:
        return [name for name in self._scene.shown() if described(name)["plane"]]

    def _plane(self) -> str:
        """The plane that was touched last; the first that is shown where that was another view."""
        planes = self._planes()
        return self.touched if self.touched in planes else planes[0]


def _spread(count: int) -> Iterator[int]:
    """1 to ``count``, each once: a few, then those halfway between them, and so on."""
    width = 1 << count.bit_length()
    while width > 1:
        yield from range(width // 2, count + 1, width)
        width //= 2
