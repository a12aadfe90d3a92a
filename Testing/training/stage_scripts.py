"""The scripts of Training/, run in the tests' own process: torch is imported once."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from xray2ctpa_core.cli.stage import run_stage


def module_of(repository: Path, script: str) -> ModuleType:
    """The script as a module."""
    spec = importlib.util.spec_from_file_location(Path(script).stem, repository / "Training" / script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def stage(repository: Path, script: str, out: Path, *arguments: str) -> int:
    """The script's exit code."""
    module = module_of(repository, script)
    return run_stage(module.__doc__, module.Config, module.run, {}, ["--out", str(out), *arguments])
