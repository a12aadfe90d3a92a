"""Common parts of training steps: printing and saving the configuration, one-line errors, progress bar."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli import lean
from xray2ctpa_core.config import write_text_atomically
from xray2ctpa_core.errors import XRay2CTPAError

T = TypeVar("T")

CONFIG_FILE = "config.json"
#: A step's function: (configuration, folder); it resumes a stopped run in the folder.
Run = Callable[[T, Path], None]
#: Packages that MONAI imports, where they are installed, for its bundles; no step uses them.
_UNUSED = ("bs4", "ignite", "jsonschema")


def start_lean() -> None:
    """Hides unused packages; must be called before a step's module is imported."""
    lean.leave_out(_UNUSED)


def run_step(run: Run[T], config: T, out: Path) -> int:
    """Prints and saves the configuration, seeds and runs the step; returns the exit code. Errors are printed
    as one line on stderr."""
    try:
        print(configuration.dumps(config), flush=True)
        _seed(getattr(config, "seed", 0))
        configuration.save(config, out / CONFIG_FILE)
        run(config, out)
    except XRay2CTPAError as error:
        return said(error)
    return 0


def said(error: XRay2CTPAError) -> int:
    """Prints an error on stderr; returns its exit code."""
    print(f"error: {error.message.rstrip('.')}. {error.hint}".rstrip(), file=sys.stderr)
    return error.exit_code


def _seed(seed: int) -> None:
    """Seeds torch, if the step imported it, for draws before the loop (initial weights)."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def write_report(path: Path, text: str) -> None:
    """Prints ``text`` and writes it to ``path``, atomically."""
    sys.stdout.write(text)
    write_text_atomically(path, text)


class Bar:
    """A progress bar for the loop's progress calls."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar: tqdm[Any] | None = None

    def __call__(self, done: int, of: int, terms: dict[str, float] | None = None) -> None:
        if self._bar is None:
            self._bar = tqdm(total=of, desc=self._title, file=sys.stderr)
        self._bar.update(done - self._bar.n)
        if terms:
            self._bar.set_postfix({name: f"{value:.4f}" for name, value in terms.items()}, refresh=False)
        if done == of:
            self._bar.close()
