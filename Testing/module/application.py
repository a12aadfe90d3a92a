"""slicer-core that looks like the application to a scripted module: app, layout manager, base classes."""

import contextlib
import json
import sys
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pythonqt
import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from scenes import Application, application_scene
from vtk.util.numpy_support import vtk_to_numpy

MODULE = Path(__file__).resolve().parents[2] / "X-ray2CTPA"
READER_STUDY = MODULE.parent / "X-ray2CTPAReaderStudy"


class View:
    """A slice or 3D view: a renderer, and how often it was asked to render."""

    def __init__(self) -> None:
        self._renderer = vtk.vtkRenderer()
        self.renders = 0

    def renderWindow(self) -> Any:
        """A real render window looks for a screen."""
        renderers = types.SimpleNamespace(GetFirstRenderer=lambda: self._renderer)
        return types.SimpleNamespace(GetRenderers=lambda: renderers)

    def scheduleRender(self) -> None:
        self.renders += 1

    def resetFocalPoint(self) -> None:
        self.scheduleRender()

    def texts(self) -> list[str]:
        """What is written in the view and visible."""
        props = self._renderer.GetViewProps()
        actors = [props.GetItemAsObject(number) for number in range(props.GetNumberOfItems())]
        return [a.GetInput() for a in actors if a.IsA("vtkTextActor") and a.GetVisibility()]


class LayoutManager:
    """The views of the layout."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self.views: dict[str, View] = {}

    @property
    def threeDViewCount(self) -> int:
        return 1

    def sliceViewNames(self) -> tuple[str, ...]:
        return tuple(self._application.slices)

    def sliceWidget(self, name: str) -> Any:
        view = self.views.setdefault(name, View())
        return types.SimpleNamespace(sliceView=lambda: view)

    def threeDWidget(self, index: int) -> Any:
        view = self.views.setdefault(f"3D {index}", View())
        return types.SimpleNamespace(threeDView=lambda: view)


class App:
    """``slicer.app``."""

    applicationName = "Slicer"
    applicationVersion = "5.12.3"

    def __init__(self, application: Application, temporary: Path) -> None:
        self._application = application
        self.temporaryPath = str(temporary)
        self.cachePath = str(temporary.parent / "slicer-cache")
        self._layout_manager = LayoutManager(application)
        self.startup: list[Any] = []
        self.cursors: list[Any] = []

    def processEvents(self) -> None:
        self._application.show_views()  # as the layout manager makes widgets for new views
        # Not QApplication's: under Python 3.11, PySide6 6.12 gives away a reference to None at every call.
        QtCore.QEventLoop().processEvents()

    def applicationLogic(self) -> Any:
        return self._application.logic

    def layoutManager(self) -> LayoutManager:
        return self._layout_manager

    def connect(self, signal: str, receiver: Any) -> None:
        assert signal == "startupCompleted()"
        self.startup.append(receiver)

    def testingEnabled(self) -> bool:
        return True

    def setOverrideCursor(self, cursor: Any) -> None:
        self.cursors.append(cursor)

    def restoreOverrideCursor(self) -> None:
        self.cursors.pop()


@dataclass
class Dialogs:
    """Message boxes that were shown, and the answer that the next ones get."""

    shown: list[tuple[str, str]] = field(default_factory=list)
    answer: bool = True
    cursors: list[int] = field(default_factory=list)

    def ask(self, text: str, **_options: Any) -> bool:
        self.shown.append(("ask", text))
        self.cursors.append(len(slicer.app.cursors))
        return self.answer

    def tell(self, text: str, detailedText: str = "", **_options: Any) -> None:
        self.shown.append(("tell", f"{text}\n{detailedText}".strip()))


def load_volume(path: str, properties: dict[str, Any] | None = None) -> Any:
    """``slicer.util.loadVolume``: a colour picture becomes a vector volume.

    slicer-core has no reader of PNG; VTK's takes its place and lays the image down as the application does.
    """
    name = (properties or {}).get("name") or Path(path).stem
    is_png = str(path).lower().endswith(".png")
    reader = vtk.vtkPNGReader()
    if is_png:
        reader.SetFileName(str(path))
        reader.Update()
    colour = is_png and reader.GetOutput().GetNumberOfScalarComponents() > 1
    cls = "vtkMRMLVectorVolumeNode" if colour else "vtkMRMLScalarVolumeNode"
    storage = slicer.vtkMRMLVolumeArchetypeStorageNode()
    storage.SetFileName(str(path))
    storage.SetSingleFile(True)
    slicer.mrmlScene.AddNode(storage)
    node = slicer.mrmlScene.AddNewNodeByClass(cls, name)
    if is_png:
        pixels = vtk_to_numpy(reader.GetOutput().GetPointData().GetScalars())
        columns, rows, _ = reader.GetOutput().GetDimensions()
        shape = (1, rows, columns, -1) if colour else (1, rows, columns)
        slicer.util.updateVolumeFromArray(node, pixels.reshape(shape)[:, ::-1].copy())
        node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)
    elif not storage.ReadData(node):
        raise RuntimeError(f"cannot load {path}")
    node.SetAndObserveStorageNodeID(storage.GetID())
    node.CreateDefaultDisplayNodes()
    return node


# --- Base classes of a scripted module ---------------------------------------------------------------


def _folder_of(part: Any) -> Path:
    """The folder of the module that a class belongs to."""
    return Path(sys.modules[type(part).__module__].__file__).parent


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent

    def resourcePath(self, name: str) -> str:
        return str(_folder_of(self) / "Resources" / name)


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(_folder_of(self) / "Resources" / name)

    def setup(self) -> None:
        """The application adds a developer's section."""

    def onReload(self) -> None:
        """The application makes another widget of the file as it is then."""
        self.reloaded = True


class ScriptedLoadableModuleLogic:
    def __init__(self) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetAttribute("ModuleName", self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


class ScriptedLoadableModuleTest:
    """A unittest.TestCase in the application."""

    def delayDisplay(self, message: str) -> None:
        self.message = message


class Choice:
    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices


class WithinRange:
    def __init__(self, least: float, most: float) -> None:
        self.least, self.most = least, most


def parameter_node_wrapper(cls: type) -> type:
    """``parameterNodeWrapper``: typed members in a vtkMRMLScriptedModuleNode, tied to widgets by name."""
    hints = typing.get_type_hints(cls, include_extras=True)
    defaults = {name: getattr(cls, name, None) for name in hints}
    namespace = {name: _parameter(name, hint, defaults[name]) for name, hint in hints.items()}

    def __init__(self: Any, node: Any) -> None:
        self.parameterNode, self._ties = node, {}

    def __getattr__(self: Any, name: str) -> Any:
        return getattr(self.__dict__["parameterNode"], name)  # AddObserver, GetID, ...

    def __eq__(self: Any, other: Any) -> bool:
        return getattr(other, "parameterNode", None) is self.parameterNode

    def connectGui(self: Any, ui: Any) -> int:
        ties = [_Tie(self, hints, w) for w in vars(ui).values() if w.property("SlicerParameterName")]
        for tie in ties:
            tie.set_node_types()
        tag = self.parameterNode.AddObserver(
            vtk.vtkCommand.ModifiedEvent, lambda *_: [t.show() for t in ties]
        )
        for tie in ties:
            tie.show()
        self._ties[tag] = ties
        return tag

    def disconnectGui(self: Any, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)
        for tie in self._ties.pop(tag):
            tie.cut()

    made = (__init__, __getattr__, __eq__, connectGui, disconnectGui)
    namespace |= {f.__name__: f for f in made} | {"__hash__": lambda self: hash(id(self.parameterNode))}
    return type(cls.__name__, (), namespace)


def _parameter(name: str, hint: Any, default: Any) -> property:
    is_node = bool(_node_types(hint))
    kind = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    checks = getattr(hint, "__metadata__", ())

    def read(self: Any) -> Any:
        if is_node:
            return self.parameterNode.GetNodeReference(name)
        text = self.parameterNode.GetParameter(name)
        return default if text == "" else json.loads(text)

    def write(self: Any, value: Any) -> None:
        if is_node:
            fits = value is None or value.GetClassName() in _node_types(hint)
            assert fits, f"{name} takes no {value.GetClassName()}"
            self.parameterNode.SetNodeReferenceID(name, value.GetID() if value is not None else None)
            return
        if type(value) is not kind:
            raise TypeError(f"{name} needs {kind.__name__}, got {value!r}")
        for check in checks:
            if isinstance(check, Choice) and value not in check.choices:
                raise ValueError(f"{name}: {value!r} is none of {check.choices}")
            if isinstance(check, WithinRange) and not check.least <= value <= check.most:
                raise ValueError(f"{name}: {value!r} is out of range")
        self.parameterNode.SetParameter(name, json.dumps(value))

    return property(read, write)


def _node_types(hint: Any) -> tuple[str, ...]:
    """Class names of an annotation with a node class or a typing.Union of them; () for any other."""
    is_union = typing.get_origin(hint) is typing.Union
    parts = typing.get_args(hint) if is_union else (hint,)
    if is_union and type(None) not in parts:
        raise TypeError(f"Unable to write value 'None': the wrapper writes it first, and {hint} has none")
    nodes = [part for part in parts if isinstance(part, type) and issubclass(part, slicer.vtkMRMLNode)]
    return tuple(node.__name__ for node in nodes)


class _Tie:
    """A widget and the parameter it shows and sets."""

    def __init__(self, parameters: Any, hints: dict[str, Any], widget: Any) -> None:
        self._parameters, self._widget = parameters, widget
        self._name = widget.property("SlicerParameterName")
        self._hint = hints[self._name]
        self._live = True
        metadata = getattr(hints[self._name], "__metadata__", ())
        self._choices = next((m.choices for m in metadata if isinstance(m, Choice)), None)
        limits = next((m for m in metadata if isinstance(m, WithinRange)), None)
        kind = type(widget).__name__
        if kind == "QComboBox":
            widget.blockSignals(True)
            widget.clear()
            for choice in self._choices:
                widget.addItem(str(choice))
            widget.blockSignals(False)
        if kind == "QSpinBox" and limits is not None:
            widget.blockSignals(True)
            widget.setRange(limits.least, limits.most)
            widget.blockSignals(False)
        signal, self._read, self._write = {
            "QComboBox": (
                "currentIndexChanged(int)",
                lambda: self._choices[widget.currentIndex],
                lambda v: widget.setCurrentIndex(self._choices.index(v)),
            ),
            "QSpinBox": ("valueChanged(int)", lambda: widget.value, lambda v: widget.setValue(v)),
            "QLineEdit": ("textChanged(QString)", lambda: widget.text, lambda v: widget.setText(v)),
            "QCheckBox": ("toggled(bool)", lambda: widget.checked, lambda v: widget.setChecked(v)),
            "NodeComboBox": (
                "currentNodeChanged(vtkMRMLNode*)",
                lambda: widget.currentNode(),
                lambda v: widget.setCurrentNode(v),
            ),
        }[kind]
        widget.connect(signal, self._changed)

    def set_node_types(self) -> None:
        """The real wrapper gives a selector the annotated types alone, whatever the .ui file says."""
        if _node_types(self._hint):
            self._widget.setProperty("nodeTypes", list(_node_types(self._hint)))

    def show(self) -> None:
        value = getattr(self._parameters, self._name)
        if self._live and self._read() != value:
            self._write(value)

    def cut(self) -> None:
        self._live = False

    def _changed(self) -> None:
        if self._live and self._read() != getattr(self._parameters, self._name):
            setattr(self._parameters, self._name, self._read())


# --- All of it together ------------------------------------------------------------------------------


@dataclass
class Slicer:
    """The application of one test."""

    app: App
    application: Application
    dialogs: Dialogs
    temporary: Path

    @property
    def scene(self) -> Any:
        return self.application.scene

    def leftovers(self) -> list[str]:
        """What lies in the application's temporary folder."""
        return sorted(path.name for path in self.temporary.iterdir())


def _module(name: str, **members: Any) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


@contextlib.contextmanager
def running_slicer(folder: Path, patch: Any) -> Iterator[Slicer]:
    """slicer-core as the application; ``patch`` is pytest's monkeypatch, which takes everything back."""
    qt_app = QtWidgets.QApplication.instance() or QtWidgets.QApplication(["Slicer"])
    assert qt_app is not None  # kept alive as long as the application
    temporary = folder / "slicer-temporary"
    temporary.mkdir()
    dialogs = Dialogs()
    with application_scene() as application:
        pythonqt.install(folder / "settings.ini")
        app = App(application, temporary)
        patch.setattr(slicer, "mrmlScene", application.scene, raising=False)
        patch.setattr(slicer, "app", app, raising=False)
        patch.setattr(slicer, "modules", types.SimpleNamespace(), raising=False)
        patch.setattr(slicer.util, "loadUI", pythonqt.load_ui)
        patch.setattr(slicer.util, "childWidgetVariables", pythonqt.child_widget_variables)
        patch.setattr(slicer.util, "loadVolume", load_volume)
        for name in ("confirmOkCancelDisplay", "confirmYesNoDisplay"):
            patch.setattr(slicer.util, name, dialogs.ask)
        for name in ("infoDisplay", "errorDisplay", "warningDisplay"):
            patch.setattr(slicer.util, name, dialogs.tell)
        modules = {
            "slicer.i18n": _module("slicer.i18n", tr=lambda text: text, translate=lambda _c, text: text),
            "slicer.ScriptedLoadableModule": _module(
                "slicer.ScriptedLoadableModule",
                **{
                    cls.__name__: cls
                    for cls in (
                        ScriptedLoadableModule,
                        ScriptedLoadableModuleWidget,
                        ScriptedLoadableModuleLogic,
                        ScriptedLoadableModuleTest,
                    )
                },
            ),
            "slicer.parameterNodeWrapper": _module(
                "slicer.parameterNodeWrapper",
                parameterNodeWrapper=parameter_node_wrapper,
                Choice=Choice,
                WithinRange=WithinRange,
            ),
        }
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.syspath_prepend(str(MODULE))
        patch.syspath_prepend(str(READER_STUDY))
        for name in [n for n in sys.modules if n.split(".")[0].startswith("XRay2CTPA")]:
            patch.delitem(sys.modules, name)
        try:
            yield Slicer(app, application, dialogs, temporary)
        finally:
            QtCore.QCoreApplication.sendPostedEvents(None, QtCore.QEvent.Type.DeferredDelete)
