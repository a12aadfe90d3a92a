"""What is worth drawing before it is asked for: the slices beside those that are looked at."""

from xray2ctpa_core.viewer.scene import ResultScene
from xray2ctpa_core.viewer.titles import described

#: Slices in the direction of the last step, and where there was none: steps from the present slice.
_ONWARDS, _AROUND = (1, 2, 3, 4, 5, 6, -1, -2), (1, -1, 2, -2, 3, -3, 4, -4)


class Ahead:
    """The slices beside the present one of the plane that was touched last, those scrolled towards first.

    Args:
        scene: what is shown.

    Attributes:
        touched: the view that was touched or pointed at last; "" at first.
    """

    def __init__(self, scene: ResultScene) -> None:
        self.touched = ""
        self._scene = scene
        self._slices: dict[str, int] = {}
        self._waiting: list[tuple[str, tuple[float, ...]]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def renew(self) -> None:
        """Begins anew from what is shown now."""
        name = self._plane()
        number, former = self._scene.slice_of(name)[0], self._slices.get(name)
        self._slices = {view: self._scene.slice_of(view)[0] for view in self._scene.alike(name)}
        towards = 0 if former is None else number - former
        steps = [step if towards > 0 else -step for step in _ONWARDS] if towards else _AROUND
        places = [self._scene.beside(name, step) for step in steps]
        self._waiting = [(view, place) for place in places for view in self._scene.alike(name)]

    def next(self) -> tuple[str, tuple[float, ...]]:
        """The next view and where it is to be cut; it waits no longer."""
        return self._waiting.pop(0)

    def _plane(self) -> str:
        """The plane that was touched last; the first that is shown where that was another view."""
        planes = [name for name in self._scene.shown() if described(name)["plane"]]
        return self.touched if self.touched in planes else planes[0]
