"""The core's command in PythonSlicer: its arguments and its environment."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import slicer

from .CorePath import CORE_PACKAGE, makeCoreImportable


def coreArguments(arguments: Sequence[str]) -> list[str]:
    """The command line of ``xray2ctpa ARGUMENTS`` in Slicer's own Python.

    ``-P`` keeps the working folder out of the search path, where a user may have a ``random.py``.
    """
    python = shutil.which("PythonSlicer") or sys.executable
    return [python, "-P", "-m", CORE_PACKAGE, *arguments]


def hubCacheFolder() -> Path:
    """Folder of fetched bundles in Slicer's cache folder, with which they are found and deleted."""
    return Path(slicer.app.cachePath) / "XRay2CTPA"


def coreEnvironment(mayFetch: bool = False, bundleFolders: Sequence[str] = ()) -> dict[str, str]:
    """The environment of the command.

    Args:
        mayFetch: whether a bundle may be fetched from the Hub; without it, the network is not used.
        bundleFolders: folders of bundles from the Hub that were fetched before.
    """
    environment = dict(os.environ)
    paths = [str(makeCoreImportable()), *environment.get("PYTHONPATH", "").split(os.pathsep)]
    # An empty entry is the working folder, which -P leaves out.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONIOENCODING"] = "utf-8"
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    environment["HF_HUB_CACHE"] = str(hubCacheFolder())
    if not mayFetch:
        environment["HF_HUB_OFFLINE"] = "1"
    folders = [*bundleFolders, environment.get("XRAY2CTPA_BUNDLES", "")]
    environment["XRAY2CTPA_BUNDLES"] = os.pathsep.join(filter(None, folders))
    return environment
