"""A quick start: what libraries import when they are imported themselves, and generating never uses; and a
quick end."""

import atexit
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

#: diffusers imports peft and transformers where they are installed, MONAI bs4, ignite, jsonschema (with its
#: grammars), matplotlib, pandas, scikit-learn, tensorboard and scipy.signal (which imports scipy.stats),
#: torch's compiler triton.
UNUSED = (
    "bs4", "ignite", "jsonschema", "matplotlib", "pandas", "peft", "scipy.signal", "sklearn", "tensorboard",
    "torchvision", "transformers", "triton",
)  # fmt: skip


def _unchanged(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A decorator, or what makes one, that leaves functions and classes as they are."""
    return _unchanged if function is None else function


def _nothing(*_: Any, **__: Any) -> None:
    """Does nothing."""


def _scale_intensity(*args: Any, **kwargs: Any) -> Any:
    """MONAI's ScaleIntensity, imported when it is called: GradCAM's default for what it is not asked here."""
    return _imported("monai.transforms").ScaleIntensity(*args, **kwargs)


class _Compiled:
    """The class of compiled modules where nothing was compiled."""


#: What is put off, and what of it is known without it. Of torch's compiler, which takes a third of the start,
#: diffusers asks for decorators that keep code from it and whether a module was compiled; torch's optimisers
#: tell it where to break a graph. MONAI imports all of itself, and of diffusers' models the packages' lists
#: import all of their modules; whoever imports a module inside gets that one. diffusers' schedulers import
#: scipy's integration for one of them, and scipy.stats for noise levels by a beta distribution.
LATE: Mapping[str, Mapping[str, Any]] = {
    "torch._dynamo": {
        "allow_in_graph": _unchanged,
        "disable": _unchanged,
        "graph_break": _nothing,
        "eval_frame": SimpleNamespace(OptimizedModule=_Compiled),
    },
    "diffusers.models.autoencoders": {},
    "diffusers.models.transformers": {},
    "diffusers.models.unets": {},
    "monai": {},
    "monai.apps": {},
    "monai.data": {},
    "monai.networks": {},
    "monai.networks.blocks": {},
    "monai.networks.layers": {},
    "monai.networks.nets": {},
    "monai.transforms": {"ScaleIntensity": _scale_intensity},
    "monai.visualize": {},
    "scipy.integrate": {},
    "scipy.stats": {},
}


def leave_out(packages: Sequence[str] = UNUSED) -> None:
    """Makes ``packages`` count as not installed for the rest of this process, but those already imported."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python marks such a module


def put_off(modules: Mapping[str, Mapping[str, Any]] = LATE) -> None:
    """Makes ``modules`` be imported when something unknown of them is first asked for.

    Those already imported stay as they are. Modules inside a package can be imported without it.
    """
    for name, known in modules.items():
        sys.modules.setdefault(name, _Late(name, known))


def start_lean() -> None:
    """Both, for a process that generates and does nothing else."""
    leave_out()
    put_off()


def end(code: int) -> NoReturn:
    """Ends this process, which has done what it was started for, with an exit code.

    Python would take torch down module by module, for a tenth of a run's time.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _Late(ModuleType):
    """Stands in for a module, and asks the real one, imported then, for what it does not know.

    Not importlib's LazyLoader, which imports the module as soon as anything looks for its ``__file__``; torch
    does so of all modules.
    """

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)
        self.__spec__ = ModuleSpec(name, None)  # who looks whether there is such a module finds it
        library, *inner = name.split(".")
        spec = PathFinder.find_spec(library)
        folders = [Path(place, *inner) for place in spec.submodule_search_locations or ()] if spec else []
        if found := [str(folder) for folder in folders if folder.is_dir()]:
            self.__path__ = found

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return importlib.metadata.version(self.__name__)
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r} before it is imported")
        return getattr(_imported(self.__name__), name)


def _imported(name: str) -> ModuleType:
    """The real module. With it nothing of its library is put off any longer: that imports its own parts in
    an order of its own."""
    if isinstance(sys.modules.get(name), _Late):
        library = name.partition(".")[0]
        for other in [n for n, module in sys.modules.items() if isinstance(module, _Late)]:
            if other.partition(".")[0] == library:
                del sys.modules[other]
    return importlib.import_module(name)
