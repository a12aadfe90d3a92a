"""Opens the module's real panel, waits for what it does, and takes its picture."""

import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pythonqt
from PySide6 import QtCore, QtGui, QtWidgets

#: Width in pixels of the module panel in a Slicer window of usual size.
PANEL_WIDTH = 400
PICTURES = Path(__file__).resolve().parents[2] / "build" / "pictures"


class OpenPanel:
    """The module, its widget, and the window it is in."""

    def __init__(self, slicer_app: Any) -> None:
        import XRay2CTPA
        from XRay2CTPALib import Annotations

        self.annotations = Annotations
        self.raised: list[str] = []  # Qt goes on when a receiver of a signal raises
        self._hook, sys.excepthook = sys.excepthook, self._on_exception
        self.module = XRay2CTPA
        self.slicer = slicer_app
        self.window = pythonqt.wrapped(QtWidgets.QWidget)()
        QtWidgets.QVBoxLayout(self.window).setContentsMargins(6, 6, 6, 6)
        self.widget = XRay2CTPA.XRay2CTPAWidget(_Parent(self.window))
        self.widget.setup()
        self.ui, self.logic, self.panel = self.widget.ui, self.widget.logic, self.widget.panel

    @property
    def parameters(self) -> Any:
        return self.panel.parameters

    def until(self, condition: Callable[[], Any], seconds: float = 180.0) -> None:
        """Lets the application run until ``condition`` holds."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"not within {seconds} s"
            assert self.raised == []
            self.slicer.app.processEvents()
            time.sleep(0.03)
        assert self.raised == []

    def click(self, name: str) -> None:
        button = getattr(self.ui, name)
        assert button.enabled, f"{name} is disabled: {button.toolTip}"
        button.click()
        assert self.raised == []

    def grab(self, name: str) -> Path:
        """The panel as a PNG, PANEL_WIDTH wide, in Qt's light and dark palettes; returns the light one."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        app = QtWidgets.QApplication.instance()
        app.setStyle("Fusion")
        for suffix, palette in (("-dark", dark_palette()), ("", light_palette())):
            app.setPalette(palette)
            self.slicer.app.processEvents()
            self.panel.update()
            layout = QtWidgets.QWidget.layout(self.window)
            QtWidgets.QWidget.setFixedWidth(self.window, PANEL_WIDTH)
            QtWidgets.QWidget.show(self.window)
            for _round in range(3):
                self.slicer.app.processEvents()
                layout.activate()
                height = max(layout.totalHeightForWidth(PANEL_WIDTH), layout.totalSizeHint().height())
                QtWidgets.QWidget.resize(self.window, PANEL_WIDTH, height)
            assert layout.totalMinimumSize().width() <= PANEL_WIDTH, "nothing is cut off"
            QtWidgets.QWidget.grab(self.window).save(str(PICTURES / f"{name}{suffix}.png"))
        return PICTURES / f"{name}.png"

    def _on_exception(self, kind: Any, error: BaseException, trace: Any) -> None:
        self.raised.append("".join(traceback.format_exception(kind, error, trace)))

    def close(self) -> None:
        sys.excepthook = self._hook
        self.widget.cleanup()
        self.annotations.stopWatching()
        QtWidgets.QWidget.hide(self.window)
        QtCore.QObject.deleteLater(self.window)


class _Parent:
    """What the application hands to the widget: a qMRMLWidget that knows whether the module is shown."""

    def __init__(self, window: Any) -> None:
        self._window = window
        self.isEntered = True

    def layout(self) -> Any:
        return QtWidgets.QWidget.layout(self._window)


def light_palette() -> QtGui.QPalette:
    return _palette("#f0f0f0", "#ffffff", "#202020", "#e2e2e2")


def dark_palette() -> QtGui.QPalette:
    return _palette("#323232", "#242424", "#e8e8e8", "#454545")


def _palette(window: str, base: str, text: str, button: str) -> QtGui.QPalette:
    palette, role = QtGui.QPalette(QtGui.QColor(button), QtGui.QColor(window)), QtGui.QPalette.ColorRole
    for names, colour in (
        ((role.Base, role.ToolTipBase), base),
        ((role.Text, role.WindowText, role.ButtonText, role.ToolTipText), text),
    ):
        for name in names:
            palette.setColor(name, QtGui.QColor(colour))
    for name in (role.Text, role.WindowText, role.ButtonText):
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, name, QtGui.QColor("#8a8a8a"))
    return palette
