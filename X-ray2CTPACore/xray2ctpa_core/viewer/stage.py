"""The applications and off-screen views in which results are shown.

slicer-core never frees about 40 MB of an application with its views. A stage is therefore cleared when its
result is closed, and reused for the next one, so that memory depends on the number of results that are open
at the same time.
"""

from typing import Any

import slicer
import vtk
from trame_slicer.core.slicer_app import SlicerApp
from trame_slicer.views import SliceView, ThreeDView
from trame_slicer.views.render_scheduler import NoScheduleRendering

from xray2ctpa_core import mrml

RENDERING = "3D"
#: Pixels along a side of a view before its tab has reported its size.
FIRST_SIZE = (400, 400)
_BACKGROUND = (14, 17, 22)
#: Names of OpenGL's renderers without a GPU.
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "swiftshader", "software")
_idle: list["Stage"] = []


class Stage:
    """A scene and its views, each of which is made when it is first used.

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
        """Draws every view of a result once, empty, so that contexts and shaders exist."""
        for name in (mrml.RADIOGRAPH_VIEW, *mrml.PLANE_VIEWS, RENDERING):
            self.view(name).render_window().Render()

    def has_gpu(self) -> bool:
        """Whether a GPU draws; otherwise Mesa's rasterisers do."""
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
    """An empty stage: that of a closed result, or a new one."""
    return _idle.pop() if _idle else Stage()


def give_back(stage: Stage) -> None:
    """Keeps a stage, whose scene is cleared, for the next result."""
    _idle.append(stage)


def _quiet_vtk() -> None:
    """Suppresses VTK's messages on missing displays."""
    vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
    vtk.vtkObject.GlobalWarningDisplayOff()
