"""PySide6 that looks like PythonQt: properties are attributes, signals connect by their signature.

``install(settingsFile)`` puts modules ``qt`` and ``ctk`` in place, and widgets of Slicer and CTK that show
what the real ones show. Out of reach are the real widgets' looks and PythonQt's own conversions.
"""

import ctypes
import inspect
import re
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets


def _property_names(item: Any) -> set[str]:
    meta = QtCore.QObject.metaObject(item)
    names = {meta.property(index).name() for index in range(meta.propertyCount())}
    return names | {bytes(name).decode() for name in QtCore.QObject.dynamicPropertyNames(item)}


class PythonQtObject:
    """Mixin of every object: Qt properties are attributes and ``connect`` takes "signal(types)"."""

    def __getattribute__(self, name: str) -> Any:
        if name == "connect":  # PySide answers with QObject.connect
            return super().__getattribute__("_connect")
        if name.startswith("_") or name in ("property", "setProperty"):
            return super().__getattribute__(name)
        if name == "name":
            return QtCore.QObject.property(self, "objectName")
        if name in _property_names(self):
            return QtCore.QObject.property(self, name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name in _property_names(self):
            if not QtCore.QObject.setProperty(self, name, value):
                raise ValueError(f"{type(self).__name__}.{name} does not take {value!r}")
            return
        # QUiLoader keeps the children as attributes; any other new name is a property that there is not.
        if not (name.startswith("_") or hasattr(type(self), name) or isinstance(value, QtCore.QObject)):
            raise AttributeError(f"{type(self).__name__} has no property {name}")
        super().__setattr__(name, value)

    def _connect(self, signal: str, receiver: Callable[..., Any]) -> None:
        super().__getattribute__(signal.split("(")[0]).connect(_as_many_arguments(receiver))


def _as_many_arguments(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """PythonQt hands over as many of a signal's arguments as the receiver takes."""
    parameters = list(inspect.signature(receiver).parameters.values())
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return receiver
    count = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return lambda *arguments: receiver(*arguments[:count])


@cache
def wrapped(cls: type) -> type:
    """The class with the manners of PythonQt; its name stays."""
    return type(cls.__name__, (PythonQtObject, cls), {})


class CollapsibleButton(QtWidgets.QWidget):
    """ctkCollapsibleButton: a titled section, with the size policy of the real one: labels in it widen it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._text, self._collapsed = "", False
        self.setContentsMargins(0, 24, 0, 0)
        policy = QtWidgets.QSizePolicy.Policy
        QtWidgets.QWidget.setSizePolicy(self, policy.Minimum, policy.Preferred)

    def _get(self) -> str:
        return self._text

    def _set(self, text: str) -> None:
        self._text = text

    text = QtCore.Property(str, _get, _set)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        QtWidgets.QWidget.setMaximumHeight(self, 24 if collapsed else 16777215)
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                QtWidgets.QWidget.setVisible(child, not collapsed)

    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)

    def paintEvent(self, _event: Any) -> None:
        painter = QtGui.QPainter(self)
        bar = QtCore.QRect(0, 0, QtWidgets.QWidget.width(self), 22)
        painter.fillRect(bar, QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.Button))
        painter.setPen(QtWidgets.QWidget.palette(self).color(QtGui.QPalette.ColorRole.ButtonText))
        title = ("\u25b8 " if self._collapsed else "\u25be ") + self._text
        painter.drawText(bar.adjusted(8, 0, 0, 0), QtCore.Qt.AlignmentFlag.AlignVCenter, title)
        painter.end()


class CollapsibleGroupBox(QtWidgets.QGroupBox):
    """ctkCollapsibleGroupBox: hides what it holds."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._collapsed = False

    def _get(self) -> bool:
        return self._collapsed

    def _set(self, collapsed: bool) -> None:
        self._collapsed = collapsed
        QtWidgets.QWidget.setMaximumHeight(self, 18 if collapsed else 16777215)
        for child in QtCore.QObject.children(self):
            if isinstance(child, QtWidgets.QWidget):
                QtWidgets.QWidget.setVisible(child, not collapsed)

    collapsed = QtCore.Property(bool, _get, _set)


class SliderWidget(QtWidgets.QWidget):
    """ctkSliderWidget: a slider and a spin box of one value."""

    valueChanged = QtCore.Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._slider = QtWidgets.QSlider(QtCore.Qt.Orientation.Horizontal)
        self._slider.setRange(0, 1000)
        self._box = QtWidgets.QDoubleSpinBox()
        row.addWidget(self._slider, 1)
        row.addWidget(self._box)
        self._box.valueChanged.connect(self._on_box)
        self._slider.sliderMoved.connect(self._on_slider)

    def _on_box(self, value: float) -> None:
        share = (value - self._box.minimum()) / ((self._box.maximum() - self._box.minimum()) or 1)
        self._slider.setValue(round(1000 * share))
        self.valueChanged.emit(value)

    def _on_slider(self, position: int) -> None:
        width = self._box.maximum() - self._box.minimum()
        self._box.setValue(self._box.minimum() + width * position / 1000)

    minimum = QtCore.Property(float, lambda s: s._box.minimum(), lambda s, v: s._box.setMinimum(v))
    maximum = QtCore.Property(float, lambda s: s._box.maximum(), lambda s, v: s._box.setMaximum(v))
    singleStep = QtCore.Property(float, lambda s: s._box.singleStep(), lambda s, v: s._box.setSingleStep(v))
    value = QtCore.Property(float, lambda s: s._box.value(), lambda s, v: s._box.setValue(v))


class NodeComboBox(QtWidgets.QWidget):
    """qMRMLNodeComboBox: the scene's nodes of some types, and with an attribute where one is asked for."""

    currentNodeChanged = QtCore.Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        self._box = QtWidgets.QComboBox()
        self._box.setMinimumContentsLength(8)
        row.addWidget(self._box)
        self._scene: Any = None
        self._tags: list[int] = []
        self._attribute: str | None = None
        self._current = ""
        self._ids: list[str] = []
        self._box.activated.connect(lambda index: self.setCurrentNodeID(self._ids[index]))

    def setMRMLScene(self, scene: Any) -> None:
        if self._scene is not None:
            for tag in self._tags:
                self._scene.RemoveObserver(tag)
        self._scene, self._tags = scene, []
        if scene is not None:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent, scene.EndImportEvent)
            self._tags = [scene.AddObserver(event, self._on_scene) for event in events]
        self._on_scene()

    def addAttribute(self, _node_type: str, name: str) -> None:
        self._attribute = name

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")

    def setCurrentNodeID(self, identifier: str) -> None:
        identifier = identifier if identifier in ("", *(node.GetID() for node in self._nodes())) else ""
        changed = identifier != self._current
        self._current = identifier
        self._on_scene()
        if changed:
            self.currentNodeChanged.emit(self.currentNode())

    def _on_scene(self, *_arguments: Any) -> None:
        nodes = self._nodes()
        self._ids = ["", *(node.GetID() for node in nodes)]
        vanished = self._current not in self._ids
        if vanished:
            self._current = ""
        self._box.clear()
        self._box.addItem(str(self.property("noneDisplay") or "None"))
        for node in nodes:
            self._box.addItem(node.GetName())
        self._box.setCurrentIndex(self._ids.index(self._current))
        if vanished:
            self.currentNodeChanged.emit(None)

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = [self._scene.GetNthNode(number) for number in range(self._scene.GetNumberOfNodes())]
        types = self.property("nodeTypes") or []
        children = self.property("showChildNodeTypes")
        nodes = [node for node in nodes if any(_fits(node, t, children is not False) for t in types)]
        return [n for n in nodes if self._attribute is None or n.GetAttribute(self._attribute)]


def _fits(node: Any, node_type: str, with_children: bool) -> bool:
    return bool(node.IsA(node_type)) if with_children else node.GetClassName() == node_type


class MRMLWidget(QtWidgets.QWidget):
    """qMRMLWidget: hands its scene to those that the .ui file connects to it."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._receivers: list[Any] = []

    def setMRMLScene(self, scene: Any) -> None:
        for receiver in self._receivers:
            if not hasattr(receiver, "_scene") or receiver._scene is not scene:
                receiver.setMRMLScene(scene)


STAND_INS = {
    "qMRMLWidget": MRMLWidget,
    "qMRMLNodeComboBox": NodeComboBox,
    "ctkCollapsibleButton": CollapsibleButton,
    "ctkCollapsibleGroupBox": CollapsibleGroupBox,
    "ctkSliderWidget": SliderWidget,
}


class Loader(QtUiTools.QUiLoader):
    """Loads a .ui file; every widget gets PythonQt's manners."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[Any] = []

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        cls = STAND_INS.get(class_name) or getattr(QtWidgets, class_name)
        widget = wrapped(cls)(parent)
        QtCore.QObject.setObjectName(widget, name)
        self.made.append(widget)
        return widget


def load_ui(path: str) -> Any:
    """``slicer.util.loadUI``; the scene's connections are made by hand: PySide lacks the types."""
    root = ElementTree.parse(path).getroot()
    connections = root.find("connections")
    receivers = [c.findtext("receiver") for c in connections] if connections is not None else []
    text = re.sub(r"<connections>.*</connections>", "", Path(path).read_text(encoding="utf-8"), flags=re.S)
    loader = Loader()
    buffer = QtCore.QBuffer()
    buffer.setData(text.encode())
    widget = loader.load(buffer)
    widget._made = loader.made
    for made in loader.made:
        if QtCore.QObject.objectName(made) in receivers:
            widget._receivers.append(made)
        if isinstance(made, CollapsibleGroupBox):  # its children came after the property
            made._set(made._collapsed)
        if isinstance(made, CollapsibleButton):
            made._set_collapsed(made._collapsed)
    return widget


def child_widget_variables(widget: Any) -> Any:
    """``slicer.util.childWidgetVariables``."""
    named = {QtCore.QObject.objectName(made): made for made in widget._made}
    return types.SimpleNamespace(**{name: made for name, made in named.items() if name})


class _Module(types.ModuleType):
    """``qt`` and ``ctk``: the classes of Qt with PythonQt's manners."""

    def __getattr__(self, name: str) -> Any:
        for part in (QtCore, QtGui, QtWidgets):
            if hasattr(part, name):
                found = getattr(part, name)
                is_object = isinstance(found, type) and issubclass(found, QtCore.QObject)
                return wrapped(found) if is_object else found
        raise AttributeError(name)


@cache
def _keep_constants() -> None:
    """Under Python 3.11, PySide6 6.12 gives away references to None, True and False, which end after some
    hundred widgets; from 3.12 on, they need none."""
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40


def install(settings_file: Path) -> None:
    """Puts ``qt`` and ``ctk`` in place, and the widgets into ``slicer``; settings go to ``settings_file``."""
    _keep_constants()
    qt = _Module("qt")
    qt.QSettings = lambda: QtCore.QSettings(str(settings_file), QtCore.QSettings.Format.IniFormat)
    sys.modules["qt"] = qt
    ctk = types.ModuleType("ctk")
    for name, cls in STAND_INS.items():
        setattr(ctk if name.startswith("ctk") else slicer, name, wrapped(cls))
    sys.modules["ctk"] = ctk
