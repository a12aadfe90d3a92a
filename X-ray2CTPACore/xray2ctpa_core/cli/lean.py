"""A quick start: what libraries import when they are imported themselves, and generating never uses."""

import importlib
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

#: diffusers imports peft and transformers where they are installed, MONAI bs4, ignite, jsonschema (with its
#: grammars), matplotlib, pandas, scikit-learn, tensorboard and scipy.signal (which imports scipy.stats),
#: torch's compiler triton.
UNUSED = (
    "bs4", "ignite", "jsonschema", "matplotlib", "pandas", "peft", "scipy.signal", "sklearn", "tensorboard",
    "torchvision", "transformers", "triton",
)  # fmt: skip
#: diffusers' schedulers import it for noise levels by a beta distribution, which nothing here asks for.
LATE = ("scipy.stats",)


def leave_out(packages: Sequence[str] = UNUSED) -> None:
    """Makes ``packages`` count as not installed for the rest of this process, but those already imported."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python marks such a module


def put_off(modules: Sequence[str] = LATE) -> None:
    """Makes ``modules`` be imported when something of them is first asked for, but those already imported."""
    for name in modules:
        sys.modules.setdefault(name, _Late(name))


class _Late(ModuleType):
    """Stands in for a module, and asks the real one, imported then, for whatever is asked of it.

    Not importlib's LazyLoader, which imports the module as soon as anything looks for its ``__file__``; torch
    does so of all modules.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # who looks whether there is such a module finds it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__path__":  # which the import of a submodule asks for
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} before it is imported")
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)
