"""Parts of the module X-ray2CTPA Reader Study; they use the module X-ray2CTPA, and through it the core."""

import sys
from pathlib import Path

_FOLDER = Path(__file__).resolve().parents[1]
#: Folder of the other module's parts: beside this one if installed, or the sibling folder of a checkout.
for _candidate in (_FOLDER, _FOLDER.parent / "X-ray2CTPA"):
    if (_candidate / "XRay2CTPALib" / "__init__.py").is_file() and str(_candidate) not in sys.path:
        sys.path.append(str(_candidate))

import XRay2CTPALib  # noqa: E402, F401 - it makes the core importable
