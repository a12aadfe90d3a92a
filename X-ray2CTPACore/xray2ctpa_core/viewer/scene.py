"""One result in Slicer's own slice views and 3D view, off screen; what they show as arrays of pixels."""

import contextlib
import time
from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core import mrml
from xray2ctpa_core.mrml.display import show_between
from xray2ctpa_core.viewer import renderings, stage
from xray2ctpa_core.viewer.case import ShownRadiograph
from xray2ctpa_core.viewer.display import Display, Look
from xray2ctpa_core.viewer.probe import Probe
from xray2ctpa_core.viewer.sight import Sight, extent, look
from xray2ctpa_core.viewer.slabs import Slabs
from xray2ctpa_core.viewer.stage import RENDERING

RESULT_VIEWS = (mrml.RADIOGRAPH_VIEW, *mrml.PLANE_VIEWS, RENDERING)
#: A plane's views follow one another: generated, true, difference.
COMPARE_VIEWS = tuple(
    name
    for views in zip(mrml.PLANE_VIEWS, mrml.TRUTH_VIEWS, mrml.DIFFERENCE_VIEWS, strict=True)
    for name in views
)
#: RAS axis along which a plane is scrolled.
_AXIS = {"Sagittal": 0, "Coronal": 1, "Axial": 2}
#: Pixels along a side of a view that a visitor may ask for, and of a plane in all: it comes within 100 ms.
#: A larger view is drawn in fewer pixels, in its own proportions.
_SIDES, _PLANE_PIXELS = (48, 1400), 500_000
#: Seconds that the rendering may take while it turns and when it rests: without a GPU it casts fewer rays for
#: that, as planes wait meanwhile. And the least of them along a side of the view, per pixel.
_MOVING_SECONDS, _RESTING_SECONDS = 0.1, 0.4
_LEAST_RAYS = 0.15
#: How much nearer than Slicer's fit the rendering is seen, as the box that it leaves room for is not shown.
_NEARER = 0.12
_DEGREES = 180.0
_VOXELS_MOVED = 1e-3


def orientation(name: str) -> str:
    """The plane that a slice view of a result or of a comparison shows."""
    plane = mrml.TRUTH_VIEWS.get(name) or mrml.DIFFERENCE_VIEWS.get(name) or name
    return mrml.PLANE_VIEWS[plane]


class ResultScene:
    """The scene of one result: its nodes, the views that show them, and the place they are cut at.

    All of it belongs to the thread that made it. Views are drawn when ``draw`` asks; everything else is
    cheap and returns which views are out of date.

    Args:
        folder: the result.
        radiograph: the radiograph; None leaves its view empty.
        truth: (D, H, W) in HU, the true CTPA on the result's grid, NaN where it has no voxels; or None.

    Raises:
        InputError: the folder is not a complete result.
    """

    def __init__(
        self, folder: Path, radiograph: ShownRadiograph | None, truth: np.ndarray | None = None
    ) -> None:
        self._stage = stage.borrow()
        scene = self._stage.scene
        for name in RESULT_VIEWS:
            self._stage.view(name)
        self._stage.observe_layout()
        self._radiograph = (
            mrml.add_radiograph(
                scene, radiograph.pixels, radiograph.name, radiograph.spacing_mm, radiograph.centre
            )
            if radiograph
            else None
        )
        try:
            with_gpu = self._stage.has_gpu()
            rendering = mrml.RENDERING_CLASS if with_gpu else renderings.PROCESSOR_CLASS
            self.nodes = mrml.load_result(folder, scene, self._radiograph, rendering_class=rendering)
        except BaseException:
            self._leave()
            raise
        self.truth = truth
        self._has_radiograph_mm = radiograph is not None and radiograph.centre is not None
        self._comparison: mrml.Comparison | None = None
        self.display = Display()
        self._moving, self._turned = True, False
        self._full_seconds = 0.5
        self._sights: dict[str, Sight] = {}
        self._bounds = _bounds(self.nodes.ctpa)
        self.probe, self._slabs = Probe(self.nodes, self._bounds), Slabs(self.nodes, truth)
        mrml.show_result(self.nodes, self._stage.application_logic, self._radiograph, self.display.opacity)
        renderings.show_rendering_as(self.nodes, self._node(RENDERING), self.display)
        self.position = tuple((low + high) / 2 for low, high in self._bounds)
        self.reset()
        if not self.go_to_hottest():
            self.go_to(self.position)

    def close(self) -> None:
        """Empties the stage for the next result."""
        self._slabs.clear()
        mrml.remove_result(mrml.result_of(self.nodes.ctpa) or self.nodes)  # with the nodes of a comparison
        self._leave()

    def _leave(self) -> None:
        if self._radiograph is not None:
            self._stage.scene.RemoveNode(self._radiograph.GetDisplayNode())
            self._stage.scene.RemoveNode(self._radiograph)
        stage.give_back(self._stage)

    def shown(self) -> tuple[str, ...]:
        """Names of the views of the present mode."""
        return COMPARE_VIEWS if self.display.mode == "compare" and self.truth is not None else RESULT_VIEWS

    # --- What is shown --------------------------------------------------------------------------

    def show(self, display: Display) -> set[str]:
        """Shows the result as ``display`` says."""
        former, self.display = self.display, display
        application = self._stage.application_logic
        if display.mode == "compare" and self._comparison is None and self.truth is not None:
            self._comparison = mrml.add_comparison(self.nodes, self.truth)
            self.probe.truth = self.truth
            for name in COMPARE_VIEWS:
                self._stage.view(name)
            mrml.show_comparison(self._comparison, self.nodes, application)
            for name in (*mrml.TRUTH_VIEWS, *mrml.DIFFERENCE_VIEWS):
                self._fit(name)
            self.go_to(self.position)
        window = (display.level, display.width)
        show_between(self.nodes.ctpa, window)
        if self._comparison is not None:
            show_between(self._comparison.truth, window)
        for name in self._slices():  # overlays are laid over the planes that show the CTPA itself
            self._show_background(name, self._shown_volume(name))
        mrml.show_overlay(self.nodes, application, display.overlay, display.opacity)
        mrml.show_evidence_from(self.nodes, display.threshold)
        if display.mode != former.mode:
            return set(self.shown())
        out_of_date = set(self.shown()) - {RENDERING}
        if self.nodes.radiograph_gradcam is None:
            out_of_date -= {mrml.RADIOGRAPH_VIEW}
        windowed = display.rendering == "MIP" and window != (former.level, former.width)
        if display.rendering != former.rendering or windowed:
            renderings.show_rendering_as(self.nodes, self._node(RENDERING), display)
            self._moving = True
            return out_of_date | ({RENDERING} & set(self.shown()))
        return out_of_date

    def look(self) -> Look:
        """What is looked at, to go on from in another scene of this result."""
        return Look(self.display, self.position, dict(self._sights))

    def look_as(self, look: Look) -> None:
        """Shows what was looked at before; the rendering is seen from the front."""
        self._sights = dict(look.sights)
        self.show(look.display)
        for name in self._slices(with_radiograph=True):
            self._fit(name)
        self.go_to(look.position)

    def bars(self) -> list[dict[str, object]]:
        """The colour bars of what is shown."""
        found = renderings.bars(self.nodes, self.display)
        if self._comparison is not None and self.display.mode == "compare":
            found.append(renderings.difference_bar(self._comparison.difference))
        return found

    def resize(self, name: str, width: int, height: int) -> set[str]:
        """Gives a view another size in pixels, its content fitted; the rendering is drawn coarsely first."""
        size = _drawn_size(
            width, height, None if name in (RENDERING, mrml.RADIOGRAPH_VIEW) else _PLANE_PIXELS
        )
        view = self._stage.view(name)
        has_changed = view.render_window().GetSize() != size
        if has_changed:
            view.update_size(*size)
        if name == RENDERING:
            self._moving = True
            if not self._turned:
                self._fit_rendering()
        elif has_changed:
            self._fit(name)
        return {name}

    # --- Where the planes are cut ---------------------------------------------------------------

    def go_to(self, position: tuple[float, ...]) -> set[str]:
        """Moves the planes through ``position`` (RAS in mm), or the nearest place in the volume."""
        former, self.position = self._cut(self.position), self._inside(position)
        cut = self._cut(self.position)
        has_moved = [abs(a - b) > _VOXELS_MOVED for a, b in zip(former, cut, strict=True)]
        moved = {name for name in self._slices() if has_moved[self._axis(name)]}
        for name in moved:
            self._node(name).JumpSliceByOffsetting(*cut)
        return moved & set(self.shown())

    def go_to_hottest(self) -> bool:
        """Moves the planes through the strongest evidence; False where there is none."""
        position = mrml.hottest_position(self.nodes)
        if position is not None:
            self.go_to(position)
        return position is not None

    def scroll(self, name: str, steps: float) -> set[str]:
        """Moves a plane by ``steps`` voxels towards the patient's left, anterior or superior."""
        return self.go_to(self.beside(name, steps))

    def beside(self, name: str, steps: float) -> tuple[float, ...]:
        """Where the planes would be cut after ``scroll``: RAS in mm, within the volume."""
        axis = self._axis(name)
        position = list(self.position)
        cut = self._cut(self.position)[axis]
        position[axis] = cut + steps * self.nodes.ctpa.GetSpacing()[axis] * (-1 if axis == 0 else 1)
        return self._inside(position)

    def _inside(self, position: Sequence[float]) -> tuple[float, ...]:
        """The place in the volume that is nearest to ``position``."""
        return tuple(float(np.clip(p, *b)) for p, b in zip(position, self._bounds, strict=True))

    def _cut(self, position: Sequence[float]) -> tuple[float, ...]:
        """Where planes through ``position`` are cut: through the nearest voxel centres, as Slicer snaps them.

        So a plane shows the volume's own slices, of which there are few enough to keep their pictures.
        """
        low, step = np.array(self._bounds)[:, 0], np.array(self.nodes.ctpa.GetSpacing())
        return tuple(float(p) for p in low + np.round((np.array(position) - low) / step) * step)

    def slice_of(self, name: str) -> tuple[int, int]:
        """(number of the slice from 1, how many there are) of a plane, counted as ``scroll`` goes."""
        axis = self._axis(name)
        low, high = self._bounds[axis]
        step = self.nodes.ctpa.GetSpacing()[axis]
        cut = self._cut(self.position)[axis]
        return round((high - cut if axis == 0 else cut - low) / step) + 1, round((high - low) / step) + 1

    def go_to_slice(self, name: str, number: float) -> set[str]:
        """Moves a plane to its slice ``number``, from 1."""
        return self.scroll(name, round(number) - self.slice_of(name)[0])

    def point(self, name: str, x: float, y: float) -> set[str]:
        """Moves the planes to what lies at (x, y), parts of a view's width and height from its upper left.

        On the radiograph that is a ray: the depth is kept, and parallel rays stand for the fan of real ones.
        """
        if name == RENDERING:
            return set()
        place = self.place_at(name, x, y)
        kept = 1 if name == mrml.RADIOGRAPH_VIEW else self._axis(name)
        return self.go_to(tuple(self.position[axis] if axis == kept else place[axis] for axis in range(3)))

    def place_at(self, name: str, x: float, y: float) -> tuple[float, float, float]:
        """RAS in mm of (x, y), parts of a slice view from its upper left."""
        width, height = self._stage.view(name).render_window().GetSize()
        pixel = (x * width - 0.5, (1 - y) * height - 0.5, 0.0, 1.0)
        right, anterior, superior = self._node(name).GetXYToRAS().MultiplyPoint(pixel)[:3]
        return right, anterior, superior

    def values_at(self, name: str, x: float, y: float) -> dict[str, float]:
        """What lies under (x, y) of a view: HU, Grad-CAM and more, as its slab shows them; {} outside."""
        if name in (RENDERING, mrml.RADIOGRAPH_VIEW):
            return {}
        return self.probe.values(self.place_at(name, x, y), self._axis(name), self.display)

    def crosshair(self, name: str) -> tuple[float, float] | None:
        """Where the planes meet in a view, as parts of its width and height; None in the rendering."""
        if name == RENDERING:
            return None
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node(name).GetXYToRAS(), to_xy)
        x, y = to_xy.MultiplyPoint((*self.position, 1.0))[:2]
        width, height = self._stage.view(name).render_window().GetSize()
        return (x + 0.5) / width, 1 - (y + 0.5) / height

    def extent(self, name: str) -> tuple[float, float, float, float] | None:
        """Left, top, width and height in mm of what a slice view shows, from the middle of the volume.

        None in the rendering, and for a radiograph whose millimetres nothing says.
        """
        if name == RENDERING or (name == mrml.RADIOGRAPH_VIEW and not self._has_radiograph_mm):
            return None
        shown = extent(self._node(name))
        return shown.left, shown.top, shown.width_mm, shown.height_mm

    # --- How near it is seen --------------------------------------------------------------------

    def zoom(self, name: str, factor: float, x: float = 0.5, y: float = 0.5) -> set[str]:
        """Brings a view nearer by ``factor``, about (x, y); views of one plane go together."""
        factor = float(np.clip(factor, 0.2, 5.0))
        if name == RENDERING:
            self._turned = self._moving = True
            self._stage.view(name).zoom(1 - 1 / factor)
            return {name}
        return self._look(name, self._sight(name).zoomed(extent(self._node(name)), factor, x, y))

    def pan(self, name: str, across: float, down: float) -> set[str]:
        """Drags a slice view's content by parts of its width and height; views of one plane go together."""
        if name == RENDERING:
            return set()
        return self._look(name, self._sight(name).panned(extent(self._node(name)), across, down))

    def turn(self, right: float, up: float) -> set[str]:
        """Turns the rendering by parts of half a turn; drawn coarsely until ``refine``."""
        node = self._stage.view(RENDERING).get_camera_node()
        camera = node.GetCamera()
        camera.Azimuth(-_DEGREES * right)
        camera.Elevation(_DEGREES * up)
        camera.OrthogonalizeViewUp()
        node.ResetClippingRange()
        self._moving = self._turned = True
        return {RENDERING}

    def refine(self) -> set[str]:
        """Asks for the rendering in full after it has turned."""
        was_moving, self._moving = self._moving, False
        return {RENDERING} & set(self.shown()) if was_moving else set()

    def reset(self) -> set[str]:
        """All views as they were at first: fitted, the rendering seen from the front."""
        self._sights.clear()
        for name in self._slices(with_radiograph=True):
            self._fit(name)
        self._moving = True
        self._fit_rendering()
        return set(self.shown())

    # --- Drawing --------------------------------------------------------------------------------

    def looks(self, name: str, position: tuple[float, ...] | None = None) -> Hashable:
        """All that the picture of a plane depends on; None in the rendering and the radiograph.

        Args:
            name: of the view.
            position: RAS in mm where it is cut; None: where it is now.
        """
        if name in (RENDERING, mrml.RADIOGRAPH_VIEW):
            return None
        cut = self._cut(position or self.position)[self._axis(name)]
        size = self._stage.view(name).render_window().GetSize()
        return name, size, self._sight(name), round(cut, 3), self.display

    def draw_at(self, name: str, position: tuple[float, ...]) -> np.ndarray:
        """What a plane would show if it were cut at ``position``; it stays where it is."""
        self._node(name).JumpSliceByOffsetting(*self._cut(position))
        try:
            return self.draw(name)
        finally:
            self._node(name).JumpSliceByOffsetting(*self._cut(self.position))

    def alike(self, name: str) -> list[str]:
        """The views that show the plane of a slice view, itself first."""
        others = [other for other in self.shown() if other not in (RENDERING, mrml.RADIOGRAPH_VIEW, name)]
        return [name, *(other for other in others if orientation(other) == orientation(name))]

    def draw(self, name: str) -> np.ndarray:
        """What a view shows: (rows from the top, columns from the left, RGB) uint8."""
        view = self._stage.view(name)
        window = view.render_window()
        part = self._cast_rays(view) if name == RENDERING else 1.0
        began = time.monotonic()
        if name != RENDERING:
            if name != mrml.RADIOGRAPH_VIEW:
                shown = self._shown_volume(name)
                thick = self._slabs.node(shown, self._comparison, self._axis(name), self.display)
                self._show_background(name, thick)
            with _one_thread():
                window.Render()
        else:  # the cost grows with the number of rays
            window.Render()
            self._full_seconds = max((time.monotonic() - began) / part**2, 1e-3)
        columns, rows = window.GetSize()
        pixels = vtk.vtkUnsignedCharArray()
        window.GetPixelData(0, 0, columns - 1, rows - 1, 0, pixels, 0)
        return vtk_to_numpy(pixels).reshape(rows, columns, 3)[::-1].copy()

    def _cast_rays(self, view: Any) -> float:
        """Has the rendering cast as many rays as there is time for; returns them per pixel and side."""
        seconds = _MOVING_SECONDS if self._moving else _RESTING_SECONDS
        part = float(np.clip((seconds / self._full_seconds) ** 0.5, _LEAST_RAYS, 1.0))
        manager = view.get_displayable_manager_by_class(slicer.vtkMRMLVolumeRenderingDisplayableManager)
        mapper = manager.GetVolumeMapper(self.nodes.ctpa)
        mapper.SetAutoAdjustSampleDistances(False)
        mapper.SetImageSampleDistance(1.0 / part)
        return part

    def _fit(self, name: str) -> None:
        """Lets a slice view's background fill it, then zooms and pans as its plane is."""
        view = self._stage.view(name)
        view._logic.ResizeSliceNode(*view.render_window().GetSize())
        view._logic.FitSliceToBackground()
        look(self._node(name), self._sight(name))
        if name != mrml.RADIOGRAPH_VIEW:  # fitting has put the plane through the middle of the volume
            self._node(name).JumpSliceByOffsetting(*self._cut(self.position))

    def _fit_rendering(self) -> None:
        """The rendering from the front, as large as its view allows."""
        self._turned = False
        view = self._stage.view(RENDERING)
        view.fit_view_to_content()
        view.zoom(_NEARER)

    def _sight(self, name: str) -> Sight:
        return self._sights.get(_plane(name), Sight())

    def _look(self, name: str, sight: Sight) -> set[str]:
        """Zooms and pans every shown view of a plane."""
        self._sights[_plane(name)] = sight
        together = {other for other in self.shown() if other != RENDERING and _plane(other) == _plane(name)}
        for other in together:
            self._fit(other)
        return together

    def _shown_volume(self, name: str) -> Any:
        """The volume whose slices a plane shows, thick or not."""
        if self._comparison is not None and name in mrml.TRUTH_VIEWS:
            return self._comparison.truth
        if self._comparison is not None and name in mrml.DIFFERENCE_VIEWS:
            return self._comparison.difference
        return self.nodes.ctpa

    def _show_background(self, name: str, node: Any) -> None:
        composite = self._stage.view(name)._logic.GetSliceCompositeNode()
        if composite.GetBackgroundVolumeID() != node.GetID():
            composite.SetBackgroundVolumeID(node.GetID())

    def _slices(self, with_radiograph: bool = False) -> list[str]:
        """Names of the slice views that show this result."""
        compared = COMPARE_VIEWS if self._comparison is not None else ()
        names = dict.fromkeys(
            [*mrml.PLANE_VIEWS, *compared, *([mrml.RADIOGRAPH_VIEW] if with_radiograph else [])]
        )
        return list(names)

    def _axis(self, name: str) -> int:
        return _AXIS[orientation(name)]

    def _node(self, name: str) -> Any:
        return self._stage.view(name).get_view_node()


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Within, VTK's filters start no threads: to start and await them costs a plane more than it saves."""
    former = vtk.vtkMultiThreader.GetGlobalMaximumNumberOfThreads()
    vtk.vtkMultiThreader.SetGlobalMaximumNumberOfThreads(1)
    try:
        yield
    finally:
        vtk.vtkMultiThreader.SetGlobalMaximumNumberOfThreads(former)


def _drawn_size(width: int, height: int, most: int | None) -> tuple[int, int]:
    """The size in pixels to draw a view of this size in, with at most ``most`` of them in all."""
    least, longest = _SIDES
    width, height = max(width, least), max(height, least)
    part = min(1.0, longest / max(width, height))
    if most is not None:
        part = min(part, (most / (width * height)) ** 0.5)
    return max(round(width * part), least), max(round(height * part), least)


def _plane(name: str) -> str:
    """What views that go together have in common."""
    return name if name == mrml.RADIOGRAPH_VIEW else orientation(name)


def _bounds(node: Any) -> list[tuple[float, float]]:
    """(lowest, highest) RAS in mm of the volume's voxel centres, by axis."""
    edges = [0.0] * 6
    node.GetRASBounds(edges)
    half = [side / 2 for side in node.GetSpacing()]  # axial grids: i, j, k lie along R, A, S
    return [(edges[2 * a] + half[a], edges[2 * a + 1] - half[a]) for a in range(3)]
