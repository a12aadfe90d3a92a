"""Finds the packages of the core that are missing, and installs them after the user has agreed."""

import contextlib
import importlib.metadata
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from xray2ctpa_core.errors import InputError

REQUESTER = "X-ray2CTPA"
#: Slicer's own packages, which pip must not change.
SLICERS_OWN = ("numpy", "scipy", "SimpleITK", "pydicom", "requests", "setuptools", "pip", "vtk")
_REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)\s*>=\s*(?P<version>[0-9.]+)")


class PipFailed(InputError):
    """pip ended with an error; ``wasShown``: whether Slicer has shown it to the user, with pip's complete
    output."""

    def __init__(self, message: str, hint: str, wasShown: bool) -> None:
        super().__init__(message, hint)
        self.wasShown = wasShown


@dataclass(frozen=True)
class Requirement:
    """A package with its minimum version and its size on the disk."""

    name: str
    version: str
    megabytes: int

    @property
    def specifier(self) -> str:
        return f"{self.name}>={self.version}"

    def isMet(self) -> bool:
        """Whether it is installed; it is not imported."""
        installed = _installedVersion(self.name)
        return installed is not None and _numbers(installed) >= _numbers(self.version)


class Installer:
    """Finds and installs what is missing. Nothing is installed or contacted before ``install`` is called.

    Args:
        requirementsFile: one package in each line; the comment line "# N MB" before it is its installed size.
    """

    def __init__(self, requirementsFile: Path) -> None:
        self._file = Path(requirementsFile)

    def requirements(self) -> list[Requirement]:
        """All requirements, torch first."""
        found, megabytes = [], 0
        for line in self._file.read_text(encoding="utf-8").splitlines():
            size, match = re.fullmatch(r"#\s*(\d+) MB", line.strip()), _REQUIREMENT.fullmatch(line.strip())
            if size:
                megabytes = int(size[1])
            if match:
                found.append(Requirement(match["name"], match["version"], megabytes))
        return sorted(found, key=lambda requirement: requirement.name != "torch")

    def missing(self) -> list[Requirement]:
        """Requirements that are not installed, or too old."""
        return [requirement for requirement in self.requirements() if not requirement.isMet()]

    def consentText(self, offlineFolder: str = "") -> str:
        """Text of the question: what will be installed, from where, and how much disk space it needs."""
        missing = self.missing()
        lines = [f"  {requirement.specifier}: {requirement.megabytes} MB" for requirement in missing]
        total = sum(requirement.megabytes for requirement in missing)
        source = (
            _("from the folder {folder}; the network is not used").format(folder=offlineFolder)
            if offlineFolder
            else _("from the Python Package Index; torch through the PyTorch extension")
        )
        return "\n".join(
            [
                _("X-ray2CTPA needs these packages in Slicer's Python, {source}:").format(source=source),
                "",
                *lines,
                "",
                _("About {total} MB on the disk; torch for an NVIDIA GPU can take 4000 MB more.").format(
                    total=total
                ),
                _("Slicer's own packages are kept as they are. Your images stay on this machine."),
            ]
        )

    def install(self, offlineFolder: str = "") -> bool:
        """Asks once, then installs what is missing.

        Args:
            offlineFolder: a folder of wheels to install from instead of the network.

        Returns:
            Whether nothing is missing now; also False if the user did not agree.

        Raises:
            InputError: this Slicer's own packages are too old, the PyTorch extension is missing, or a package
                could not be installed.
        """
        missing = self.missing()
        if not missing:
            return True
        _requireSlicersOwn(missing)
        if not slicer.util.confirmOkCancelDisplay(
            self.consentText(offlineFolder), windowTitle=_("Install what X-ray2CTPA needs?")
        ):
            return False
        with _waitCursor(), _keptVersions() as constraints:
            try:
                self._installMissing(missing, offlineFolder, constraints)
            except InputError:
                raise
            # pip and the extension raise many types of errors; all mean the same here
            except Exception as error:
                raise PipFailed(
                    _("The installation did not finish: {reason}").format(reason=error),
                    _("See the error log; check the network, or install from a folder of wheels."),
                    wasShown=not offlineFolder and _slicerPackaging() is not None,
                ) from error
        importlib.invalidate_caches()
        return not self.missing()

    def _installMissing(self, missing: Sequence[Requirement], offlineFolder: str, constraints: Path) -> None:
        specifiers = [requirement.specifier for requirement in missing]
        if offlineFolder:
            offline = ["--no-index", "--find-links", offlineFolder]
            slicer.util.pip_install(["--constraint", str(constraints), *offline, *specifiers])
            return
        torch = [requirement for requirement in missing if requirement.name == "torch"]
        if torch:
            _installTorch(torch[0])
        others = [requirement.specifier for requirement in missing if requirement.name != "torch"]
        if not others:
            return
        packaging = _slicerPackaging()
        if packaging is not None:
            # The user has already agreed above.
            packaging.pip_ensure(others, constraints=constraints, prompt_install=False, requester=REQUESTER)
        else:
            slicer.util.pip_install(["--constraint", str(constraints), *others])


def _requireSlicersOwn(missing: Sequence[Requirement]) -> None:
    """Raises InputError if one of Slicer's own packages is too old, because pip must not replace it."""
    for requirement in missing:
        if requirement.name in SLICERS_OWN and (own := _installedVersion(requirement.name)) is not None:
            raise InputError(
                _("This Slicer has {name} {own}; X-ray2CTPA needs {name} {version}.").format(
                    name=requirement.name, own=own, version=requirement.version
                ),
                _("Use Slicer 5.10 or later: packages that Slicer brings cannot be exchanged."),
            )


def _installTorch(requirement: Requirement) -> None:
    """Installs torch for this machine's GPU through the PyTorch extension."""
    try:
        import PyTorchUtils
    except ImportError as error:
        raise InputError(
            _("The PyTorch extension is not installed."),
            _("Get it with the Extensions Manager and restart Slicer, or install from a folder."),
        ) from error
    torch = PyTorchUtils.PyTorchUtilsLogic().installTorch(
        askConfirmation=False, torchVersionRequirement=f">={requirement.version}"
    )
    if torch is None:
        raise InputError(_("PyTorch was not installed."), _("Try its own module, PyTorch Utils."))


def _slicerPackaging() -> object | None:
    """``slicer.packaging``, which exists in Slicer 5.12 and later."""
    try:
        import slicer.packaging
    except ImportError:
        return None
    return slicer.packaging


@contextlib.contextmanager
def _keptVersions():
    """A constraints file with the versions of Slicer's own packages."""
    lines = []
    for name in SLICERS_OWN:
        version = _installedVersion(name)
        if version is not None:
            lines.append(f"{name}=={version}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        yield path


@contextlib.contextmanager
def _waitCursor():
    """Shows the wait cursor during an installation, but not during a question."""
    slicer.app.setOverrideCursor(qt.Qt.WaitCursor)
    try:
        yield
    finally:
        slicer.app.restoreOverrideCursor()


def _installedVersion(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: "2.4.1+cu121" -> (2, 4, 1)."""
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
