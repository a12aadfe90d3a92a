"""Common parts of training steps: printing and saving the configuration, one-line errors, progress bar."""

import argparse
import contextlib
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli import lean
from xray2ctpa_core.errors import ConfigError, XRay2CTPAError

T = TypeVar("T")

CONFIG_FILE = "config.json"
#: A step's function: (configuration, folder, whether to resume the run in it).
Run = Callable[[T, Path, bool], None]
#: Packages that MONAI imports, where they are installed, for its bundles; no step uses them.
_UNUSED = ("bs4", "ignite", "jsonschema")


def start_lean() -> None:
    """Hides unused packages; must be called before a step's module is imported."""
    lean.leave_out(_UNUSED)


def run_step(run: Run[T], config: T, out: Path, resume: bool) -> int:
    """Prints and saves the configuration, seeds and runs the step; returns the exit code. Errors are printed
    as one line on stderr."""
    try:
        print(configuration.dumps(config), flush=True)
        _seed(getattr(config, "seed", 0))
        configuration.save(config, out / CONFIG_FILE)
        run(config, out, resume)
    except XRay2CTPAError as error:
        return said(error)
    return 0


def said(error: XRay2CTPAError) -> int:
    """Prints an error on stderr; returns its exit code."""
    print(f"error: {error.message} {error.hint}".rstrip(), file=sys.stderr)
    return error.exit_code


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """["steps=10", "channels=[8,16]"] -> {"steps": 10, "channels": [8, 16]}: JSON values, else text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set needs key=value, got {pair!r}.")
        values[key] = text
        with contextlib.suppress(ValueError):
            values[key] = json.loads(text)
    return values


def run_stage(
    doc: str | None,
    config_class: type[T],
    run: Run[T],
    dry_run: dict[str, Any],
    arguments: list[str] | None = None,
) -> int:
    """Command line of a script with a single step; returns its exit code.

    Args:
        doc: the script's docstring.
        config_class: dataclass of its configuration, every field with a default.
        run: the step: (configuration, out, resume).
        dry_run: values of fields for --dry-run, with which all code runs in seconds.
        arguments: command line; None takes the process's.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--config", type=Path, help="JSON file with the configuration")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides single fields")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out")
    parser.add_argument(
        "--dry-run", action="store_true", help="run everything briefly in a temporary folder, keep nothing"
    )
    args = parser.parse_args(arguments)
    try:
        config = configuration.load(config_class, args.config) if args.config else config_class()
        changes = parse_overrides(args.set) | (dry_run if args.dry_run else {})
        values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
        config = configuration.from_mapping(config_class, values | changes)
    except XRay2CTPAError as error:
        return said(error)
    if args.dry_run:
        with tempfile.TemporaryDirectory() as scratch:
            return run_step(run, config, Path(scratch) / "run", False)
    return run_step(run, config, args.out, args.resume)


def _seed(seed: int) -> None:
    """Seeds torch, if the step imported it, for draws before the loop (initial weights)."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


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
