"""Fast start and exit of a command: imports that generating does not use are left out or deferred."""

import atexit
import functools
import gc
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NoReturn

#: Unused packages that libraries import where they are installed: diffusers imports peft and transformers,
#: torch's compiler triton, MONAI bs4, ignite, jsonschema (with its grammars), matplotlib, pandas,
#: scikit-learn, tensorboard and scipy.signal (which imports scipy.stats).
UNUSED = (
    "bs4", "ignite", "jsonschema", "matplotlib", "pandas", "peft", "scipy.signal", "sklearn", "tensorboard",
    "torchvision", "transformers", "triton",
)  # fmt: skip

#: Containers by which those made exceed those freed before cycles are looked for. Imports make three hundred
#: thousand that stay; looking through them again and again by Python's own rule takes a sixth of the start.
_COLLECTED_FROM = 50_000

#: Turns that a waiting thread spins before it sleeps, some ten microseconds.
_SPINS = "10000"


def _unchanged(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Any:
    """A decorator, or a factory of one, that returns functions and classes unchanged."""
    return _unchanged if function is None else function


def _nothing(*_: Any, **__: Any) -> None:
    """Does nothing."""


def _scale_intensity(*args: Any, **kwargs: Any) -> Any:
    """MONAI's ScaleIntensity, imported when it is called: a default of GradCAM that is not used here."""
    return _imported("monai.transforms").ScaleIntensity(*args, **kwargs)


class _Compiled:
    """Stands for the class of compiled modules, of which there are none."""


#: Modules whose import is deferred, each with the attributes that are available before it. torch's compiler
#: takes a third of the start; diffusers uses only decorators that exclude code from it and the question
#: whether a module was compiled, torch's optimisers only its graph breaks. MONAI imports all of its modules,
#: and so do the packages of diffusers' models; single modules inside them can still be imported. diffusers'
#: schedulers import scipy's integration for one scheduler, and scipy.stats for noise levels from a beta
#: distribution.
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
    """Hides ``packages`` for the rest of this process, as if not installed; imported ones are not
    affected."""
    for name in packages:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None is how Python marks such a module


def put_off(modules: Mapping[str, Mapping[str, Any]] = LATE) -> None:
    """Defers the import of ``modules`` until an attribute is read that is not listed.

    Modules that are already imported are not affected. Modules inside a package can be imported without it.
    """
    for name, known in modules.items():
        sys.modules.setdefault(name, _Late(name, known))


def put_off_distributions() -> None:
    """Defers the question which distribution brings which package, which reads the metadata of all that are
    installed: diffusers asks it when it is imported, and uses the answer for packages that are not needed
    here."""
    importlib.metadata.packages_distributions = functools.partial(  # type: ignore[assignment]
        _LateMapping, importlib.metadata.packages_distributions
    )


def start_lean() -> None:
    """All of this, for a process that generates and does nothing else."""
    leave_out()
    put_off()
    put_off_distributions()
    gc.set_threshold(_COLLECTED_FROM, 50, 50)


def sleep_while_waiting() -> None:
    """Has the threads of torch sleep while they wait for one another for long; before torch is imported.

    By default they spin: where other programs have the processors too, that is up to twenty times as slow.
    Threads that sleep at once take longer where operations are short. GNU's OpenMP, which torch has on Linux,
    can spin for a while first. What the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def end(code: int) -> NoReturn:
    """Ends this process with an exit code, without Python's slow shutdown of torch (a tenth of a run)."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _LateMapping(Mapping[str, Any]):
    """A mapping that is made when it is first read.

    Args:
        make: makes it.
    """

    def __init__(self, make: Callable[[], Mapping[str, Any]]) -> None:
        self._make = make

    @functools.cached_property
    def _made(self) -> Mapping[str, Any]:
        return self._make()

    def __getitem__(self, key: str) -> Any:
        return self._made[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class _Late(ModuleType):
    """Placeholder of a module; it imports the real one for attributes that it does not have.

    importlib's LazyLoader is not suitable: it imports the module as soon as its ``__file__`` is read, and
    torch reads that of all modules.
    """

    def __init__(self, name: str, known: Mapping[str, Any]) -> None:
        super().__init__(name)
        self.__dict__.update(known)
        self.__spec__ = ModuleSpec(name, None)  # so that checks for the module's existence find it
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
    """The real module. The placeholders of its whole library are removed first, because the library imports
    its own parts in a fixed order."""
    if isinstance(sys.modules.get(name), _Late):
        library = name.partition(".")[0]
        for other, module in list(sys.modules.items()):  # a copy: another thread may import meanwhile
            if isinstance(module, _Late) and other.partition(".")[0] == library:
                sys.modules.pop(other, None)
    return importlib.import_module(name)
