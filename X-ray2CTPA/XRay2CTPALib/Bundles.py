"""The models ("bundles" of the core) that can be used: those that came with the core, and added ones."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.pipelines.bundle import BundleInfo, read_bundle_json
from xray2ctpa_core.pipelines.loading import HUB_ID, embedded_bundles, resolve_bundle

from .CoreCommand import hubCacheFolder

#: Keys of the user's settings for added bundles, and for folders of fetched ones.
ADDED_KEY = "XRay2CTPA/Bundles"
FOLDERS_KEY = "XRay2CTPA/BundleFolders"


@dataclass(frozen=True)
class Bundle:
    """An entry of the list of bundles.

    Attributes:
        source: argument of ``--bundle``.
        info: its description; None if it cannot be read, or is on the Hub.
        megabytes: size of its files; None as for info.
        problem: why it cannot be used, as a sentence; "" if it can.
        embedded: whether it came with the module.
    """

    source: str
    info: BundleInfo | None = None
    megabytes: float | None = None
    problem: str = ""
    embedded: bool = False

    @property
    def title(self) -> str:
        """Line for a list; that of an added bundle ends with its folder, so that bundles of the same name
        differ."""
        if self.info is None:
            return _("{source} (on the Hub)").format(source=self.source) if not self.problem else self.source
        kind = _(" - DEMONSTRATION") if self.info.is_demonstration else ""
        place = "" if self.embedded else f" ({Path(self.source).name})"
        return f"{self.info.name} {self.info.version}{kind}{place}"

    def description(self) -> str:
        """Information that a user needs to choose it."""
        if self.problem:
            return self.problem
        if self.info is None:
            return _("Fetched from the Hugging Face Hub when it is first used, after you agree.")
        grid = " x ".join(map(str, self.info.geometry.grid))
        lines = [
            _("Trained on {data}.").format(data=self.info.trained_on),
            _("{grid} voxels, {size:.0f} MB, licence {licence}.").format(
                grid=grid, size=self.megabytes or 0, licence=self.info.licence
            ),
        ]
        if self.info.is_demonstration:
            lines.insert(
                0, _("A demonstration: it shows the software, its results mean nothing for a patient.")
            )
        return "\n".join(lines)


class Bundles:
    """The list of bundles, kept in the user's settings. Nothing here uses the network.

    The description of a bundle is read once, and again when its bundle.json changes.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Any, Bundle]] = {}

    def all(self) -> list[Bundle]:
        """All bundles, those that came with the core first."""
        return [*(self._read(name, True) for name in embedded_bundles()), *map(self._read, self._added())]

    def find(self, source: str) -> Bundle:
        """The bundle ``source``, with its problem if it has one."""
        return self._read(source, source in embedded_bundles())

    def add(self, source: str) -> Bundle:
        """Adds a folder or a Hub id with revision; raises InputError if it is no readable bundle."""
        bundle = self.find(source)
        if bundle.problem:
            raise InputError(
                bundle.problem, _("Choose a folder with bundle.json, or write OWNER/NAME@REVISION.")
            )
        if not bundle.embedded and source not in self._added():
            self._store(ADDED_KEY, [*self._added(), source])
        return bundle

    def remove(self, source: str) -> None:
        """Removes an added bundle from the list; a folder is kept, files fetched from the Hub are deleted."""
        match = None if Path(source).is_dir() else HUB_ID.fullmatch(source)
        if match:
            cached = hubCacheFolder() / f"models--{match['repo'].replace('/', '--')}"
            shutil.rmtree(cached, ignore_errors=True)
        self._store(ADDED_KEY, [added for added in self._added() if added != source])

    def folders(self) -> list[str]:
        """Folders of bundles that were fetched before."""
        return self._stored(FOLDERS_KEY)

    def addFolder(self, folder: str) -> None:
        """Saves a folder of fetched bundles in the settings and adds every bundle directly in it."""
        if folder not in self.folders():
            self._store(FOLDERS_KEY, [*self.folders(), folder])
        for child in sorted(Path(folder).iterdir()):
            if child.is_dir() and not self.find(str(child)).problem:
                self.add(str(child))

    def _read(self, source: str, embedded: bool = False) -> Bundle:
        match = HUB_ID.fullmatch(source)
        if not embedded and match and match["revision"] and not Path(source).is_dir():
            return Bundle(source)
        try:
            if not source:
                raise BundleError(_("No model is selected."))
            if not embedded and not Path(source).is_dir():
                raise BundleError(_("The model {source} is not there any more.").format(source=source))
            folder = resolve_bundle(source)
            stamp = _stamp(folder)
            if stamp is not None and self._known.get(source, (None,))[0] == stamp:
                return self._known[source][1]
            info = read_bundle_json(folder)
        except BundleError as error:
            return Bundle(source, problem=error.message, embedded=embedded)
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        bundle = Bundle(source, info, size / 1e6, embedded=embedded)
        self._known[source] = (stamp, bundle)
        return bundle

    def _added(self) -> list[str]:
        return self._stored(ADDED_KEY)

    @staticmethod
    def _stored(key: str) -> list[str]:
        text = qt.QSettings().value(key)
        try:
            values: Any = json.loads(str(text)) if text else []
        except ValueError:
            return []
        return [value for value in values if isinstance(value, str)] if isinstance(values, list) else []

    @staticmethod
    def _store(key: str, values: list[str]) -> None:
        qt.QSettings().setValue(key, json.dumps(values))


def _stamp(folder: Path) -> Any:
    """A value that changes if the folder holds another bundle; None if there is none."""
    try:
        status = (folder / "bundle.json").stat()
    except OSError:
        return None
    return str(folder), status.st_mtime_ns, status.st_size
