"""The word SYNTHETIC in every view that shows something generated, from start-up on, in every module."""

from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from xray2ctpa_core import mrml

#: Where in ``slicer.modules`` the one watch of the application is kept: it outlives a reload of the panel.
_ATTRIBUTE = "XRay2CTPAViewWatch"
_COMPOSITE, _RENDERING = "vtkMRMLSliceCompositeNode", "vtkMRMLVolumeRenderingDisplayNode"


class ViewWatch(VTKObservationMixin):
    """Keeps the module's layouts known and the word in every view that shows a result.

    Scenes are opened, views made and volumes exchanged by anybody, so the scene itself is observed.
    """

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        self._actors: dict[str, tuple[Any, Any]] = {}
        self._awaited = False
        scene = slicer.mrmlScene
        mrml.register_layouts(scene)
        for event in (scene.EndImportEvent, scene.EndCloseEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self._later)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        for className in (_COMPOSITE, _RENDERING, "vtkMRMLLayoutNode"):
            for node in slicer.util.getNodesByClass(className):
                self._observe(node)
        self.update()

    def update(self) -> None:
        """Brings the word to the views now shown, and takes it out of those that show no result."""
        for name, view in _views().items():
            shown = _showsResult(name)
            renderer = view.renderWindow().GetRenderers().GetFirstRenderer()
            if name not in self._actors or self._actors[name][0] is not renderer:
                actor = mrml.synthetic_annotation()
                actor.SetVisibility(False)
                renderer.AddViewProp(actor)
                self._actors[name] = (renderer, actor)
            _renderer, actor = self._actors[name]
            if bool(actor.GetVisibility()) != shown:
                actor.SetVisibility(shown)
                view.scheduleRender()

    def remove(self) -> None:
        """Takes every word out again and observes nothing any more."""
        self.removeObservers()
        for renderer, actor in self._actors.values():
            renderer.RemoveViewProp(actor)
        self._actors = {}

    def _observe(self, node: Any) -> None:
        if not self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._later):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._later)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: Any, node: Any) -> None:
        if node is not None and (node.IsA(_COMPOSITE) or node.IsA(_RENDERING)):
            self._observe(node)
            self._later()

    def _later(self, _caller: Any = None, _event: Any = None) -> None:
        """Views that belong to what has changed are made by then; many changes make one update."""
        if not self._awaited:
            self._awaited = True
            qt.QTimer.singleShot(0, self._onAwaited)

    def _onAwaited(self) -> None:
        self._awaited = False
        self.update()


def watch() -> ViewWatch:
    """The application's one watch, which begins with the first call."""
    if not hasattr(slicer.modules, _ATTRIBUTE):
        setattr(slicer.modules, _ATTRIBUTE, ViewWatch())
    return getattr(slicer.modules, _ATTRIBUTE)


def stopWatching() -> None:
    """Ends the watch; the next call of ``watch`` begins another (after a reload, of the new code)."""
    if hasattr(slicer.modules, _ATTRIBUTE):
        getattr(slicer.modules, _ATTRIBUTE).remove()
        delattr(slicer.modules, _ATTRIBUTE)


def _views() -> dict[str, Any]:
    """Name -> view of every slice and 3D view of the layout now shown."""
    manager = slicer.app.layoutManager()
    if manager is None:
        return {}
    views = {name: manager.sliceWidget(name).sliceView() for name in manager.sliceViewNames()}
    for index in range(manager.threeDViewCount):
        views[f"3D {index}"] = manager.threeDWidget(index).threeDView()
    return views


def _showsResult(name: str) -> bool:
    """Whether a view of that name shows anything that was generated."""
    scene = slicer.mrmlScene
    if name.startswith("3D "):
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return any(_isRendered(node) for node in nodes if node.GetAttribute(mrml.RECORD_ATTRIBUTE))
    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)
    if logic is None:
        return False
    composite = logic.GetSliceCompositeNode()
    ids = (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID(), composite.GetLabelVolumeID())
    shown = [scene.GetNodeByID(identifier) for identifier in ids if identifier]
    return any(node is not None and node.GetAttribute(mrml.NOTICE_ATTRIBUTE) for node in shown)


def _isRendered(node: Any) -> bool:
    displays = [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    return any(d is not None and d.IsA(_RENDERING) and d.GetVisibility() for d in displays)
