"""A quick start: packages that libraries would import if they were there, and that generating never uses."""

import sys
from collections.abc import Sequence

#: diffusers imports peft and transformers where they are installed, MONAI jsonschema (with its grammars),
#: pandas, matplotlib and tensorboard: together two fifths of the time from start to first work.
UNUSED = ("jsonschema", "matplotlib", "pandas", "peft", "tensorboard", "torchvision", "transformers")


def leave_out(packages: Sequence[str] = UNUSED) -> None:
    """Makes ``packages`` count as not installed for the rest of this process, but those already imported."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python marks such a module
