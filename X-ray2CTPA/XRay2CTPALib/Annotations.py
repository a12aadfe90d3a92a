"""Shows the word SYNTHETIC in every view of generated data, in every module, from start-up on."""

from typing import Any

import qt
import slicer
import vtk
from slicer.util import VTKObservationMixin

from xray2ctpa_core import mrml

#: Attribute of ``slicer.modules`` that holds the application's only watch, which outlives a reload of the
#: panel.
_ATTRIBUTE = "XRay2CTPAViewWatch"
_COMPOSITE, _RENDERING = "vtkMRMLSliceCompositeNode", "vtkMRMLVolumeRenderingDisplayNode"


class ViewWatch(VTKObservationMixin):
    """Registers the module's layouts, and shows the word in every view of a result.

    It observes the scene, because any module can open scenes, create views and exchange volumes.
    """

    def __init__(self) -> None:
        VTKObservationMixin.__init__(self)
        # ID -> tag. The mixin would keep removed nodes alive: it never forgets an object.
        self._tags: dict[str, int] = {}
        self._actors: dict[str, tuple[Any, Any]] = {}
        self._awaited = False
        scene = slicer.mrmlScene
        mrml.register_layouts(scene)
        for event in (scene.EndImportEvent, scene.EndCloseEvent, scene.EndBatchProcessEvent):
            self.addObserver(scene, event, self._later)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onNodeRemoved)
        for className in (_COMPOSITE, _RENDERING, "vtkMRMLLayoutNode"):
            for node in slicer.util.getNodesByClass(className):
                self._observe(node)
        self.update()

    def update(self) -> None:
        """Adds the word to the views that show a result now, and removes it from all others."""
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
        """Removes the word from all views, and all observers."""
        self.removeObservers()
        for identifier, tag in self._tags.items():
            slicer.mrmlScene.GetNodeByID(identifier).RemoveObserver(tag)
        self._tags = {}
        for renderer, actor in self._actors.values():
            renderer.RemoveViewProp(actor)
        self._actors = {}

    def _observe(self, node: Any) -> None:
        if node.GetID() not in self._tags:
            self._tags[node.GetID()] = node.AddObserver(vtk.vtkCommand.ModifiedEvent, self._later)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, _caller: Any, _event: Any, node: Any) -> None:
        if node is not None and (node.IsA(_COMPOSITE) or node.IsA(_RENDERING)):
            self._observe(node)
            self._later()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeRemoved(self, _caller: Any, _event: Any, node: Any) -> None:
        tag = self._tags.pop(node.GetID(), None) if node is not None else None
        if tag is not None:
            node.RemoveObserver(tag)
            self._later()

    def _later(self, _caller: Any = None, _event: Any = None) -> None:
        """Schedules one update for many changes, when the views that belong to them exist."""
        if not self._awaited:
            self._awaited = True
            qt.QTimer.singleShot(0, self._onAwaited)

    def _onAwaited(self) -> None:
        self._awaited = False
        self.update()


def watch() -> ViewWatch:
    """The application's only watch, which the first call starts."""
    if not hasattr(slicer.modules, _ATTRIBUTE):
        setattr(slicer.modules, _ATTRIBUTE, ViewWatch())
    return getattr(slicer.modules, _ATTRIBUTE)


def stopWatching() -> None:
    """Ends the watch; the next call of ``watch`` starts another, with the new code after a reload."""
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
    """Whether the view shows anything that was generated."""
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
