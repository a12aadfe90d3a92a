"""The applications and off-screen views in which results are shown one after another.

slicer-core keeps about 40 MB of an application with its views for good. Hence a stage is kept when its
result is closed, cleared, and lent to the next one: memory follows how many results are open at a time.
"""

from typing import Any

import slicer
import vtk
from trame_slicer.core.slicer_app import SlicerApp
from trame_slicer.views import SliceView, ThreeDView
from trame_slicer.views.render_scheduler import NoScheduleRendering

from xray2ctpa_core import mrml

RENDERING = "3D"
#: Pixels along a side of a view before its tab has said how large it is.
FIRST_SIZE = (400, 400)
_BACKGROUND = (14, 17, 22)
#: What OpenGL's renderers without a GPU are called.
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software")
_idle: list["Stage"] = []


class Stage:
    """A scene and the views on it, each made when it is first asked for.

    Attributes:
        application_logic: vtkMRMLApplicationLogic that knows the slice views.
        scene: vtkMRMLScene.
    """

    def __init__(self) -> None:
        _quiet_vtk()
        self._app = SlicerApp()
        self.scene, self.application_logic = self._app.scene, self._app.app_logic
        for singleton in (slicer.vtkMRMLInteractionNode(), slicer.vtkMRMLSelectionNode()):
            singleton.SetSingletonTag("Singleton")
            self.scene.AddNode(singleton)
        self._views: dict[str, Any] = {}
        self._layout = slicer.vtkMRMLLayoutLogic()

    def view(self, name: str) -> Any:
        """The view ``name``: RENDERING or a slice view."""
        if name not in self._views:
            self._views[name] = self._new_view(name)
            if name != mrml.RADIOGRAPH_VIEW and name not in mrml.TRUTH_VIEWS:
                self._views[name].renderers()[-1].AddViewProp(mrml.synthetic_annotation())
        return self._views[name]

    def observe_layout(self) -> None:
        """Has the layout's node follow; after the first views, which have made their nodes by then."""
        self._layout.SetMRMLScene(self.scene)

    def warm_up(self) -> None:
        """Draws every view of a result once, empty: contexts and shaders are then there."""
        for name in (mrml.RADIOGRAPH_VIEW, *mrml.PLANE_VIEWS, RENDERING):
            self.view(name).render_window().Render()

    def has_gpu(self) -> bool:
        """Whether a GPU draws; where none does, Mesa's rasterisers stand in."""
        said = self.view(RENDERING).render_window().ReportCapabilities().lower()
        return not any(name in said for name in _SOFTWARE)

    def _new_view(self, name: str) -> Any:
        if name != RENDERING:
            view = SliceView(
                self.scene, self.application_logic, name, scheduled_render_strategy=NoScheduleRendering()
            )
            if name == mrml.RADIOGRAPH_VIEW:
                view.get_view_node().SetViewGroup(mrml.RADIOGRAPH_VIEW_GROUP)
        else:
            # The layout's 3D view has the tag "1".
            view = ThreeDView(
                self.scene, self.application_logic, "1", scheduled_render_strategy=NoScheduleRendering()
            )
            view.set_background_color(list(_BACKGROUND))
            view.set_box_visible(False)
            view.renderer().SetUseDepthPeelingForVolumes(False)
        view.render_window().SetMultiSamples(0)
        view.update_size(*FIRST_SIZE)
        return view


def borrow() -> Stage:
    """An empty stage: one that a closed result has left, or a new one."""
    return _idle.pop() if _idle else Stage()


def give_back(stage: Stage) -> None:
    """Keeps a stage for the next result; its scene holds nothing of the former one."""
    _idle.append(stage)


def _quiet_vtk() -> None:
    """VTK's remarks on missing displays stay off the terminal."""
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    vtk.vtkObject.GlobalWarningDisplayOff()
