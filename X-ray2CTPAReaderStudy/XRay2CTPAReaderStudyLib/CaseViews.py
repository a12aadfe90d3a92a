"""Shows a case of a study in the views, so that names, files and display do not reveal what it is."""

from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _
from XRay2CTPALib import Annotations

from xray2ctpa_core import mrml
from xray2ctpa_core.constants import CTPA_DISPLAY_WINDOW, NOTICE
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.mrml.display import show_between
from xray2ctpa_core.reader_study.protocol import Phase, Presentation


class CaseViews:
    """The nodes of one case at a time; they are not saved with the scene and hidden in lists of nodes."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._volume: Any = None

    def show(self, folder: Path, phase: Phase, shown: Presentation) -> None:
        """Replaces the present case by another one.

        A volume is marked SYNTHETIC in its views unless the phase is blinded, in which it may be real.

        Raises:
            InputError: a file of the case cannot be read.
        """
        self.clear()
        name = _("Case {number}").format(number=shown.position + 1)
        radiograph = None
        if "volume" in phase.shows and shown.case.volume:
            self._volume = self._load(folder / shown.case.volume, name)
            show_between(self._volume, CTPA_DISPLAY_WINDOW)
            if not phase.blinded:
                self._volume.SetAttribute(mrml.NOTICE_ATTRIBUTE, NOTICE)
        if "radiograph" in phase.shows and shown.case.radiograph:
            radiograph = self._load(folder / shown.case.radiograph, _("{name}, radiograph").format(name=name))
        mrml.use_layout(slicer.mrmlScene)
        slicer.app.processEvents()  # so that new views have their sizes
        self._put(radiograph)
        Annotations.watch().update()

    def clear(self) -> None:
        """Removes the case from the scene."""
        for node in self._nodes:
            if node.GetScene() is not None:  # somebody may have removed it
                mrml.remove_with_displays(node)
        self._nodes, self._volume = [], None

    def settings(self) -> str:
        """Window and level of the volume that the reader has set; "" without a volume."""
        if self._volume is None:
            return ""
        display = self._volume.GetDisplayNode()
        if display is None:  # somebody has removed the node
            return ""
        return f"window {display.GetWindow():.0f} level {display.GetLevel():.0f}"

    def _load(self, file: Path, name: str) -> Any:
        try:
            node = slicer.util.loadVolume(str(file), {"name": name, "singleFile": True, "show": False})
        except RuntimeError as error:
            raise InputError(
                _("A file of the case cannot be read: {file}.").format(file=file.name),
                _("Copy the study anew."),
            ) from error
        storage = node.GetStorageNode()
        node.SetAndObserveStorageNodeID(None)
        if storage is not None:
            slicer.mrmlScene.RemoveNode(storage)  # it holds the path of the file
        node.SetSaveWithScene(False)
        node.SetHideFromEditors(True)
        self._nodes.append(node)
        return node

    def _put(self, radiograph: Any) -> None:
        """Puts the volume into the planes and the radiograph into its view; without one the view is empty."""
        logics = slicer.app.applicationLogic()
        mrml.show_radiograph(logics.GetSliceLogicByLayoutName(mrml.RADIOGRAPH_VIEW), radiograph)
        for view, orientation in mrml.PLANE_VIEWS.items():
            logic = logics.GetSliceLogicByLayoutName(view)
            composite = logic.GetSliceCompositeNode()
            composite.SetLinkedControl(False)
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
            composite.SetBackgroundVolumeID(self._volume.GetID() if self._volume is not None else None)
            if self._volume is not None:
                logic.GetSliceNode().SetOrientation(orientation)
                logic.FitSliceToBackground()
