"""The panel's section for the installation and for checking it."""

from pathlib import Path
from typing import Any

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.errors import XRay2CTPAError

from .Installer import Installer
from .ParameterNode import settingsFrom
from .Question import Question

#: Steps of the run that measures this machine.
MEASURED_STEPS = 2


class SetupSection:
    """A frame that is visible only while something is missing, and the installation check.

    Attributes:
        isInstalling: whether pip is running; events are processed meanwhile.
    """

    def __init__(self, ui: Any, logic: Any, installer: Installer, onChanged: Any) -> None:
        self._ui, self._logic, self._installer, self._onChanged = ui, logic, installer, onChanged
        self._parameters: Any = None
        self._report: list[str] = []
        self.isInstalling = False
        self._failure = ""
        ui.installButton.connect("clicked(bool)", self.onInstall)
        ui.offlineButton.connect("clicked(bool)", self.onInstallOffline)
        ui.checkInstallationButton.connect("clicked(bool)", self.onCheck)

    def update(self, parameters: Any, missing: list[str]) -> None:
        """Shows the names of missing packages, and the buttons to install them."""
        self._parameters = parameters
        self._ui.setupFrame.visible = bool(missing)
        if missing:
            text = _("To generate, these packages have to be installed once: {names}.")
            lines = (text.format(names=", ".join(missing)), self._failure)
            self._ui.setupLabel.text = "\n".join(filter(None, lines))

    def onInstall(self) -> None:
        """Asks, and installs over the network."""
        self._install("")

    def onInstallOffline(self) -> None:
        """Asks for a folder, and installs from it; bundles in it are added to the list."""
        folder = qt.QFileDialog.getExistingDirectory(
            self._ui.setupFrame, _("Folder with wheels and bundles"), ""
        )
        if folder:
            self._install(folder)

    def onCheck(self) -> None:
        """Reports versions and devices, then measures a short run."""
        self._ui.checkInstallationButton.enabled = False
        self._ui.installationLabel.text = _("Checking...")
        self._logic.system(self._onSystem)

    def _install(self, folder: str) -> None:
        if self.isInstalling:
            return
        self._setInstalling(True)
        try:
            if self._installer.install(folder) and folder:
                self._logic.bundles.addFolder(str(Path(folder)))
            self._failure = ""
        except (XRay2CTPAError, OSError) as error:
            hint = error.hint if isinstance(error, XRay2CTPAError) else ""
            self._failure = "\n".join(filter(None, (str(error), hint)))
            if not getattr(error, "wasShown", False):
                slicer.util.errorDisplay(self._failure, windowTitle=_("The installation failed"))
        finally:
            self._setInstalling(False)
        self._onChanged()

    def _setInstalling(self, isInstalling: bool) -> None:
        """Disables the rest of the panel while pip is running."""
        self.isInstalling = isInstalling
        self._ui.installButton.enabled = self._ui.offlineButton.enabled = not isInstalling
        self._ui.applyButton.enabled = self._ui.checkInstallationButton.enabled = not isInstalling

    def _onSystem(self, question: Question) -> None:
        if not question.succeeded:
            self._ui.checkInstallationButton.enabled = True
            self._ui.installationLabel.text = question.text
            return
        content = question.content
        versions = ", ".join(f"{name} {version}" for name, version in content["software"].items() if version)
        self._report = [_device(device) for device in content["devices"]] + [versions]
        self._ui.installationLabel.text = "\n".join([*self._report, _("Measuring a short run...")])
        try:
            self._logic.measure(settingsFrom(self._parameters), MEASURED_STEPS, self._onMeasured)
        except XRay2CTPAError as error:
            self._ui.checkInstallationButton.enabled = True
            self._ui.installationLabel.text = "\n".join([*self._report, error.message, error.hint])

    def _onMeasured(self, question: Question) -> None:
        self._ui.checkInstallationButton.enabled = True
        outcome = _("A short run ended well.") if question.succeeded else question.text
        self._ui.installationLabel.text = "\n".join([*self._report, outcome])
        self._onChanged()


def _device(device: dict[str, Any]) -> str:
    """One line on a device: name and free memory."""
    free = device["free_memory_mb"]
    memory = _("free memory not known") if free is None else _("{gb:.1f} GB free").format(gb=free / 1024)
    return f"{device['device']}: {device['name']}, {memory}"
