"""What the training scripts share: arguments, the configuration printed and saved, the progress bar."""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from xray2ctpa_core import config as configuration
from xray2ctpa_core.errors import ConfigError, XRay2CTPAError

T = TypeVar("T")

CONFIG_FILE = "config.json"


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """["steps=10", "channels=[8,16]"] -> {"steps": 10, "channels": [8, 16]}: JSON values, else text."""
    values: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"--set needs key=value, got {pair!r}.")
        try:
            values[key] = json.loads(text)
        except ValueError:
            values[key] = text
    return values


def run_stage(
    doc: str | None,
    config_class: type[T],
    run: Callable[[T, Path, bool], None],
    dry_run: dict[str, Any],
    arguments: list[str] | None = None,
) -> int:
    """The whole command of a training script; returns its exit code.

    Args:
        doc: the script's docstring.
        config_class: dataclass of its configuration, every field with a default.
        run: does the work: (configuration, out, resume).
        dry_run: fields that --dry-run sets so that all of the code runs in seconds.
        arguments: command line; None takes the process's.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--config", type=Path, help="JSON file with the configuration")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides single fields")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out")
    parser.add_argument(
        "--dry-run", action="store_true", help="run everything for a moment in a scratch folder, keep nothing"
    )
    args = parser.parse_args(arguments)
    try:
        config = configuration.load(config_class, args.config) if args.config else config_class()
        changes = parse_overrides(args.set) | (dry_run if args.dry_run else {})
        values = {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}  # type: ignore[arg-type]
        config = configuration.from_mapping(config_class, values | changes)
        print(configuration.dumps(config), flush=True)
        _seed(getattr(config, "seed", 0))
        if args.dry_run:
            with tempfile.TemporaryDirectory() as scratch:
                run(config, Path(scratch) / "run", False)
            return 0
        configuration.save(config, args.out / CONFIG_FILE)
        run(config, args.out, args.resume)
    except XRay2CTPAError as error:
        print(f"error: {error.message} {error.hint}".rstrip(), file=sys.stderr)
        return error.exit_code
    return 0


def _seed(seed: int) -> None:
    """Seeds what a stage draws before its loop: initial weights."""
    import torch

    torch.manual_seed(seed)


class Bar:
    """A progress bar that takes the loop's progress calls."""

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
