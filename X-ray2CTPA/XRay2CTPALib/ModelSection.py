"""The panel's section that lists models, and adds, verifies and removes them."""

from collections.abc import Callable
from typing import Any

import qt
from slicer.i18n import tr as _

from xray2ctpa_core.errors import InputError

from .Question import Question


class ModelSection:
    """The list of bundles. ``current`` is the bundle of the parameters, with its problem if it has one."""

    def __init__(
        self, ui: Any, logic: Any, onSelected: Callable[[str], None], onChanged: Callable[[], None]
    ) -> None:
        self._ui, self._logic, self._onSelected, self._onChanged = ui, logic, onSelected, onChanged
        self._sources: list[str] = []
        self._note = ""
        self.current: Any = None
        ui.bundleSelector.connect("currentIndexChanged(int)", self.onSelected)
        ui.addBundleButton.connect("clicked(bool)", self.onAddFolder)
        ui.addHubButton.connect("clicked(bool)", self.onAddHub)
        ui.verifyBundleButton.connect("clicked(bool)", self.onVerify)
        ui.removeBundleButton.connect("clicked(bool)", self.onRemove)

    def problem(self) -> str:
        """Why the bundle cannot be used; "" if it can."""
        return self.current.problem if self.current is not None else _("Select a model.")

    def update(self, parameters: Any) -> None:
        bundles = self._logic.bundles.all()
        self.current = self._logic.bundles.find(parameters.bundle)
        if self.current.source not in [bundle.source for bundle in bundles]:
            bundles.append(
                self.current
            )  # a bundle that is not in the list, named by a scene from another machine
        self._sources = [bundle.source for bundle in bundles]
        selector = self._ui.bundleSelector
        selector.blockSignals(True)
        selector.clear()
        for bundle in bundles:
            selector.addItem(bundle.title)
        selector.currentIndex = self._sources.index(self.current.source)
        selector.blockSignals(False)
        self._ui.bundleLabel.text = "\n".join(filter(None, (self.current.description(), self._note)))
        self._ui.removeBundleButton.enabled = not self.current.embedded
        self._ui.verifyBundleButton.enabled = self.current.info is not None

    def onSelected(self, index: int) -> None:
        self._note = ""
        if 0 <= index < len(self._sources):
            self._onSelected(self._sources[index])

    def onAddFolder(self) -> None:
        """Asks for a folder and adds it, if one is chosen."""
        source = qt.QFileDialog.getExistingDirectory(self._ui.bundleSelector, _("Folder with a model"), "")
        if source:
            self.add(source)

    def onAddHub(self) -> None:
        """Asks for a Hub id and adds it."""
        source = qt.QInputDialog.getText(
            self._ui.bundleSelector, _("Model on the Hugging Face Hub"), _("OWNER/NAME@REVISION:")
        )
        source = source if isinstance(source, str) else ""
        if source.strip():
            self.add(source.strip())

    def add(self, source: str) -> None:
        """Adds and selects the bundle ``source``, or shows why that is impossible."""
        try:
            self._logic.bundles.add(source)
            self._note = ""
            self._onSelected(source)
        except InputError as error:
            self._note = f"{error.message} {error.hint}"
        self._onChanged()

    def onVerify(self) -> None:
        self._note = _("Verifying...")
        self._onChanged()
        self._logic.verify(self.current.source, self._onVerified)

    def onRemove(self) -> None:
        self._logic.bundles.remove(self.current.source)
        self._note = ""
        self._onSelected(self._sources[0])
        self._onChanged()

    def _onVerified(self, question: Question) -> None:
        self._note = question.text.splitlines()[0] if question.text else ""
        self._onChanged()
