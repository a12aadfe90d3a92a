"""One result in Slicer's own slice views and 3D view, off screen; what they show as arrays of pixels."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from trame_slicer.core.slicer_app import SlicerApp
from trame_slicer.views import SliceView, ThreeDView
from trame_slicer.views.render_scheduler import NoScheduleRendering
from vtk.util.numpy_support import vtk_to_numpy

from xray2ctpa_core import mrml
from xray2ctpa_core.viewer.case import Film
from xray2ctpa_core.viewer.display import Display
from xray2ctpa_core.viewer.labels import annotate, orientation

RENDERING = "3D"
RESULT_VIEWS = (mrml.FILM_VIEW, *mrml.PLANE_VIEWS, RENDERING)
COMPARE_VIEWS = (*mrml.PLANE_VIEWS, *mrml.TRUTH_VIEWS, *mrml.DIFFERENCE_VIEWS)
#: RAS axis along which a plane is scrolled.
_AXIS = {"Sagittal": 0, "Coronal": 1, "Axial": 2}
#: Pixels along a side of a view: at first, and what a visitor may ask for.
_FIRST_SIZE = (400, 400)
_SIDES = (48, 1400)
#: Rays along a side of the rendering, per pixel, while it turns; and the seconds that it may take in full:
#: without a GPU it casts fewer, for planes wait meanwhile.
_COARSE = 0.4
_FULL_SECONDS = 0.6
_BACKGROUND = (14, 17, 22)
_WHEEL = 0.1
#: How much nearer than Slicer's fit the rendering is seen, as the box that it leaves room for is not shown.
_NEARER = 0.12
_DEGREES = 180.0


class ResultScene:
    """The scene of one result: its nodes, the views that show them, and the place they are cut at.

    All of it belongs to the thread that made it. Views are drawn when ``draw`` asks; everything else is
    cheap and returns which views are out of date.

    Args:
        folder: the result.
        film: the radiograph; None leaves its view empty.
        truth: (D, H, W) in HU, the true CTPA on the result's grid, or None.

    Raises:
        InputError: the folder is not a complete result.
    """

    def __init__(self, folder: Path, film: Film | None, truth: np.ndarray | None = None) -> None:
        _quiet_vtk()
        self._app = SlicerApp()
        scene = self._app.scene
        for singleton in (slicer.vtkMRMLInteractionNode(), slicer.vtkMRMLSelectionNode()):
            singleton.SetSingletonTag("Singleton")
            scene.AddNode(singleton)
        node = mrml.add_film(scene, film.pixels, film.name, film.spacing_mm, film.centre) if film else None
        self.nodes = mrml.load_result(folder, scene, node)
        self.comparison = None if truth is None else mrml.add_comparison(self.nodes, truth)
        self.display = Display()
        self._coarse, self._turned = True, False
        self._full_part = 1.0
        names = [*RESULT_VIEWS, *(COMPARE_VIEWS if self.comparison else ())]
        self._views = {name: self._new_view(name) for name in dict.fromkeys(names)}
        # After the views, which have made their nodes by then; the layout only describes how they stand.
        self._layout = slicer.vtkMRMLLayoutLogic()
        self._layout.SetMRMLScene(scene)
        mrml.show_result(self.nodes, self._app.app_logic, node, self.display.opacity)
        if self.comparison:
            mrml.show_comparison(self.comparison, self.nodes, self._app.app_logic)
        for name, view in self._views.items():
            annotate(view.renderers()[-1], name, name == RENDERING)
        self._bounds = _bounds(self.nodes.ctpa)
        self.position = tuple((low + high) / 2 for low, high in self._bounds)
        if not self.go_to_hottest():
            self.go_to(self.position)
        self.reset()

    def close(self) -> None:
        """Gives the views' memory back."""
        for view in self._views.values():
            view.finalize()
        self._layout.SetMRMLScene(None)
        self._app.scene.Clear(1)

    def shown(self) -> tuple[str, ...]:
        """Names of the views of the present mode."""
        return COMPARE_VIEWS if self.display.mode == "compare" and self.comparison else RESULT_VIEWS

    def resize(self, name: str, width: int, height: int) -> set[str]:
        """Gives a view another size in pixels, its content fitted; the rendering is drawn coarsely first."""
        width, height = (int(np.clip(side, *_SIDES)) for side in (width, height))
        view = self._views[name]
        if name == RENDERING:
            view.update_size(width, height)
            self._coarse = True
            if not self._turned:
                self._fit_rendering(view)
            return {name}
        if view.render_window().GetSize() != (width, height):
            self._fit(view, width, height)
            self.go_to(self.position)
        return {name}

    def show(self, display: Display) -> set[str]:
        """Shows the result as ``display`` says."""
        former, self.display = self.display, display
        application = self._app.app_logic
        if display.window != former.window:
            mrml.show_window(self.nodes, display.window)
            if self.comparison:
                mrml.show_comparison(self.comparison, self.nodes, application)
                self.go_to(self.position)
        mrml.show_overlay(self.nodes, application, display.overlay, display.opacity)
        mrml.show_evidence_from(self.nodes, display.threshold)
        if display.mode != former.mode:
            return set(self.shown())
        return set(self.shown()) - {mrml.FILM_VIEW, RENDERING}

    def go_to(self, position: tuple[float, ...]) -> set[str]:
        """Moves the planes through ``position`` (RAS in mm), or the nearest place in the volume."""
        self.position = tuple(float(np.clip(p, *b)) for p, b in zip(position, self._bounds, strict=True))
        for name, view in self._views.items():
            if name not in (mrml.FILM_VIEW, RENDERING):
                view.get_view_node().JumpSliceByOffsetting(*self.position)
        return set(self.shown()) - {mrml.FILM_VIEW, RENDERING}

    def go_to_hottest(self) -> bool:
        """Moves the planes through the strongest evidence; False where there is none."""
        position = mrml.hottest_position(self.nodes)
        if position is not None:
            self.go_to(position)
        return position is not None

    def scroll(self, name: str, steps: float) -> set[str]:
        """Moves a plane by ``steps`` voxels towards the patient's left, anterior or superior."""
        axis = _AXIS[orientation(name)]
        position = list(self.position)
        position[axis] += steps * self.nodes.ctpa.GetSpacing()[axis] * (-1 if axis == 0 else 1)
        return self.go_to(tuple(position))

    def point(self, name: str, x: float, y: float) -> set[str]:
        """Moves the planes to what lies at (x, y), parts of a view's width and height from its upper left.

        On the radiograph that is a ray: the depth is kept, and parallel rays stand for the fan of real ones.
        """
        if name == RENDERING:
            return set()
        place = self._node(name).GetXYToRAS().MultiplyPoint((*self._xy(name, x, y), 0.0, 1.0))[:3]
        kept = 1 if name == mrml.FILM_VIEW else _AXIS[orientation(name)]
        position = [self.position[axis] if axis == kept else place[axis] for axis in range(3)]
        return self.go_to(tuple(position))

    def zoom(self, name: str, steps: float) -> set[str]:
        """Brings a view nearer by ``steps`` turns of the wheel (farther if negative)."""
        self._views[name].zoom(float(np.clip(steps, -5, 5)) * _WHEEL)
        return {name}

    def turn(self, right: float, up: float) -> set[str]:
        """Turns the rendering by parts of half a turn; drawn coarsely until ``refine``."""
        node = self._views[RENDERING].get_camera_node()
        camera = node.GetCamera()
        camera.Azimuth(-_DEGREES * right)
        camera.Elevation(_DEGREES * up)
        camera.OrthogonalizeViewUp()
        node.ResetClippingRange()
        self._coarse = self._turned = True
        return {RENDERING}

    def refine(self) -> set[str]:
        """Asks for the rendering in full after it has turned."""
        was_coarse, self._coarse = self._coarse, False
        return {RENDERING} if was_coarse else set()

    def reset(self) -> set[str]:
        """All views as they were at first: fitted, the rendering seen from the front."""
        for name, view in self._views.items():
            if name == RENDERING:
                self._fit_rendering(view)
            else:
                self._fit(view, *view.render_window().GetSize())
        self.go_to(self.position)
        return set(self.shown())

    def crosshair(self, name: str) -> tuple[float, float] | None:
        """Where the planes meet in a view, as parts of its width and height; None in the rendering."""
        if name == RENDERING:
            return None
        to_xy = vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(self._node(name).GetXYToRAS(), to_xy)
        x, y = to_xy.MultiplyPoint((*self.position, 1.0))[:2]
        width, height = self._views[name].render_window().GetSize()
        return (x + 0.5) / width, 1 - (y + 0.5) / height

    def draw(self, name: str) -> np.ndarray:
        """What a view shows: (rows from the top, columns from the left, RGB) uint8."""
        view = self._views[name]
        window = view.render_window()
        if name == RENDERING:
            self._cast_rays(view)
        began = time.monotonic()
        window.Render()
        if name == RENDERING and self._coarse:  # the cost grows with the number of rays
            in_full = (time.monotonic() - began) / _COARSE**2
            self._full_part = float(np.clip((_FULL_SECONDS / in_full) ** 0.5, _COARSE, 1.0))
        columns, rows = window.GetSize()
        pixels = vtk.vtkUnsignedCharArray()
        window.GetPixelData(0, 0, columns - 1, rows - 1, 0, pixels, 0)
        return vtk_to_numpy(pixels).reshape(rows, columns, 3)[::-1].copy()

    def _new_view(self, name: str) -> Any:
        scene, logic = self._app.scene, self._app.app_logic
        if name != RENDERING:
            view = SliceView(scene, logic, name, scheduled_render_strategy=NoScheduleRendering())
            if name == mrml.FILM_VIEW:
                view.get_view_node().SetViewGroup(mrml.FILM_VIEW_GROUP)
        else:
            # The layout's 3D view has the tag "1".
            view = ThreeDView(scene, logic, "1", scheduled_render_strategy=NoScheduleRendering())
            view.set_background_color(list(_BACKGROUND))
            view.set_box_visible(False)
            view.renderer().SetUseDepthPeelingForVolumes(False)
        view.render_window().SetMultiSamples(0)
        view.update_size(*_FIRST_SIZE)
        return view

    def _fit_rendering(self, view: Any) -> None:
        """The rendering from the front, as large as its view allows."""
        self._turned = False
        view.fit_view_to_content()
        view.zoom(_NEARER)

    @staticmethod
    def _fit(view: Any, width: int, height: int) -> None:
        """Gives a slice view a size in pixels and lets its background fill it."""
        view.update_size(width, height)
        view._logic.ResizeSliceNode(width, height)
        view._logic.FitSliceToBackground()

    def _cast_rays(self, view: Any) -> None:
        """Has the rendering cast as many rays as there is time for; letters stay sharp."""
        manager = view.get_displayable_manager_by_class(slicer.vtkMRMLVolumeRenderingDisplayableManager)
        mapper = manager.GetVolumeMapper(self.nodes.ctpa)
        mapper.SetAutoAdjustSampleDistances(False)
        mapper.SetImageSampleDistance(1.0 / (_COARSE if self._coarse else self._full_part))

    def _node(self, name: str) -> Any:
        return self._views[name].get_view_node()

    def _xy(self, name: str, x: float, y: float) -> tuple[float, float]:
        """Parts of a view from its upper left -> its pixels from the lower left."""
        width, height = self._views[name].render_window().GetSize()
        return x * width - 0.5, (1 - y) * height - 0.5


def _bounds(node: Any) -> list[tuple[float, float]]:
    """(lowest, highest) RAS in mm of the volume's voxel centres, by axis."""
    edges = [0.0] * 6
    node.GetRASBounds(edges)
    half = [side / 2 for side in node.GetSpacing()]  # axial grids: i, j, k lie along R, A, S
    return [(edges[2 * a] + half[a], edges[2 * a + 1] - half[a]) for a in range(3)]


def _quiet_vtk() -> None:
    """VTK's remarks on missing displays stay off the terminal."""
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    vtk.vtkObject.GlobalWarningDisplayOff()
