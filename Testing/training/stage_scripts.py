"""Scripts of Training/ and steps of recipes, run in the tests' own process: torch is imported once."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from xray2ctpa_core.cli.recipe import Runner
from xray2ctpa_core.training.recipe import Recipe, read_recipe


def module_of(repository: Path, script: str) -> ModuleType:
    """The script as a module."""
    with_steps(repository)
    spec = importlib.util.spec_from_file_location(Path(script).stem, repository / "Training" / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def with_steps(repository: Path) -> None:
    """Makes the steps importable, as Training/train.py does."""
    if str(repository / "Training") not in sys.path:
        sys.path.insert(0, str(repository / "Training"))


def stage(repository: Path, kind: str, out: Path, *sets: str) -> int:
    """The exit code of one step of a kind, which writes ``out``; ``sets`` are its KEY=VALUE."""
    file = out.parent / f"{out.name}.toml"
    file.write_text(f'steps = ["{out.name}"]\n[{out.name}]\nkind = "{kind}"\n', encoding="utf-8")
    changes = [f"{out.name}.{change}" for change in sets]
    words = [str(file), "--one-process", "--out", str(out.parent), *(["--set", *changes] if changes else [])]
    return runner(repository).main(None, words)


def runner(repository: Path) -> Runner:
    """The runner of Training/train.py."""
    with_steps(repository)
    kinds = importlib.import_module("kinds").KINDS
    return Runner(repository / "Training", kinds)


def read(repository: Path, name: str, out: Path, *changes: str) -> Recipe:
    """A recipe, read and checked but for its paths."""
    with_steps(repository)
    settings = {kind: value.settings for kind, value in importlib.import_module("kinds").KINDS.items()}
    path = repository / "Training" / "recipes" / f"{name}.toml"
    return read_recipe(path, {"out": str(out)}, changes, settings)


def recipe(repository: Path, name: str, out: Path, *arguments: str) -> int:
    """The exit code of a recipe, run in this process."""
    return runner(repository).main(None, [name, "--one-process", "--out", str(out), *arguments])


def step(repository: Path, name: str, step_name: str, out: Path, *sets: str) -> int:
    """The exit code of one step of a recipe; ``sets`` are its KEY=VALUE. It writes ``out``/step_name."""
    changes = [f"{step_name}.{change}" for change in sets]
    return recipe(repository, name, out, "--only", step_name, *(["--set", *changes] if changes else []))
