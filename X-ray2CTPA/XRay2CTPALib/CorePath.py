"""Location of the core package: beside the installed module, or in the sibling folder of a checkout."""

import importlib.util
import sys
from pathlib import Path

CORE_PACKAGE = "xray2ctpa_core"


def makeCoreImportable() -> Path:
    """Makes ``import xray2ctpa_core`` find the core that came with this module.

    Returns:
        The folder that holds the package.

    Raises:
        ImportError: there is none.
    """
    moduleFolder = Path(__file__).resolve().parents[1]
    for folder in (moduleFolder, moduleFolder.parent / "X-ray2CTPACore"):
        if (folder / CORE_PACKAGE / "__init__.py").is_file():
            if str(folder) not in sys.path:
                sys.path.insert(0, str(folder))
            return folder
    found = importlib.util.find_spec(CORE_PACKAGE)
    if found is None or found.origin is None:
        raise ImportError(
            f"The package {CORE_PACKAGE} is missing beside {moduleFolder}: install X-ray2CTPA again."
        )
    return Path(found.origin).parents[1]
