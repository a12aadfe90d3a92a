"""The one runner: runs the steps of a recipe in order and resumes a run that was stopped."""

import argparse
import dataclasses
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xray2ctpa_core import config as configuration
from xray2ctpa_core.cli.stage import CONFIG_FILE, run_step, said, start_lean
from xray2ctpa_core.cli.streams import working_folder_left_out
from xray2ctpa_core.config import append_json_line, read_json_lines
from xray2ctpa_core.data.settings import check_paths
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.generation.failures import DEBUG_VARIABLE, user_error
from xray2ctpa_core.training.recipe import Recipe, Step, describe, read_recipe, recipe_about

#: One line for each run of a step: step, seconds, exit code.
TIMES_FILE = "times.jsonl"
#: Settings that do not change a step's results.
_HARMLESS = {"workers", "cluster", "checkpoint_every", "log_every", "keep_checkpoints", "tensorboard"}


@dataclass(frozen=True)
class Kind:
    """A kind of step.

    Attributes:
        module: module in the scripts' folder.
        settings: class of the settings.
        function: its function (settings, out).
        finished: file in the step's folder that marks it as finished; "" where the step itself skips finished
            work.
    """

    module: str
    settings: type
    function: str = "run"
    finished: str = ""


class Runner:
    """Runs recipes.

    Args:
        scripts: folder of the steps' modules and of recipes/.
        kinds: kinds of steps by name.
        modules: run only the steps of these modules; all where there are none.
    """

    def __init__(self, scripts: Path, kinds: Mapping[str, Kind], modules: Sequence[str] = ()) -> None:
        self._scripts, self._kinds, self._modules = scripts, kinds, tuple(modules)

    def main(self, doc: str | None, arguments: Sequence[str] | None = None) -> int:
        """The whole command; returns its exit code."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        parser = self._parser(doc)
        asked = [word for word in words if word in ("-h", "--help")]
        if asked and len(words) == len(asked):
            parser.print_help()
            return 0
        args = parser.parse_args([word for word in words if word not in asked])
        try:
            recipe = self._read(args)
            steps = [_placed(step, args.cluster) for step in self._chosen(recipe, args.only)]
            if asked:
                print(recipe.about, *map(describe, steps), sep="\n\n")
                return 0
            recipe.check(steps)
            return self._run(recipe, steps, args, words)
        except Exception as error:
            if os.environ.get(DEBUG_VARIABLE):
                raise
            return said(user_error(error))  # here what a library raises becomes one line

    def _parser(self, doc: str | None) -> argparse.ArgumentParser:
        recipes = sorted((self._scripts / "recipes").glob("*.toml"))
        listed = "\n".join(f"  {path.stem:20} {recipe_about(path)}" for path in recipes)
        parser = argparse.ArgumentParser(
            description=doc,
            epilog=f"RECIPE --help lists all settings of its steps.\n\nrecipes:\n{listed}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=False,
        )
        parser.add_argument("recipe", metavar="RECIPE", help="TOML file, or the name of one in recipes/")
        parser.add_argument("--out", help="folder of the run; a step writes into its own in it")
        parser.add_argument("--data", help="folder of your studies, for recipes that read them")
        parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="STEP.KEY=VALUE")
        parser.add_argument("--only", nargs="+", action="extend", default=[], metavar="STEP")
        parser.add_argument(
            "--one-process", action="store_true", help="run all steps in one process; faster for small data"
        )
        parser.add_argument("--dry-run", action="store_true", help="only print which steps would run")
        parser.add_argument(
            "--cluster",
            default="",
            metavar="SPEC",
            help="have several machines preprocess (extra: cluster): local:N, slurm:N, slurm:FILE.toml, or "
            "the address of a Dask scheduler; other steps run here",
        )
        return parser

    def _read(self, args: argparse.Namespace) -> Recipe:
        path = Path(args.recipe)
        if not path.suffix:
            path = self._scripts / "recipes" / f"{args.recipe}.toml"
        settings = {name: kind.settings for name, kind in self._kinds.items()}
        return read_recipe(path, {"out": args.out, "data": args.data}, args.set, settings)

    def _chosen(self, recipe: Recipe, only: Sequence[str]) -> list[Step]:
        """The steps to run: the named ones; without names those of this runner's modules."""
        steps = recipe.chosen(only)
        if only or not self._modules:
            return list(steps)
        chosen = [step for step in steps if self._kinds[step.kind].module in self._modules]
        if not chosen:
            raise ConfigError(f"Expected steps of {', '.join(self._modules)} in the recipe, got none.")
        return chosen

    def _run(self, recipe: Recipe, steps: Sequence[Step], args: argparse.Namespace, words: list[str]) -> int:
        alone = len(steps) == 1
        for step in steps:
            if self._is_finished(step):
                print(f"finished: {step.out}", flush=True)
                continue
            print(f"step: {step.name} -> {step.out}", flush=True)
            if args.dry_run:
                continue
            began = time.monotonic()
            if alone or args.one_process:
                code = self._run_here(step)
            else:
                command = [sys.executable, str(self._scripts / "train.py"), *words, "--only", step.name]
                code = subprocess.run(_only_last(command), check=False).returncode
            if not alone:
                _note(recipe.out, step, time.monotonic() - began, code)
            if code:
                return code
        if not (args.dry_run or alone) and (recipe.out / TIMES_FILE).exists():
            print(report(recipe.out))
        return 0

    def _is_finished(self, step: Step) -> bool:
        """Whether the step is finished; warns where it was made with other settings."""
        finished = self._kinds[step.kind].finished
        if not (finished and (step.out / finished).exists()):
            return False
        for line in _differences(step):
            print(f"warning: {step.out} was made with {line}; remove it to make it anew.", file=sys.stderr)
        return True

    def _run_here(self, step: Step) -> int:
        """Runs a step in this process."""
        kind = self._kinds[step.kind]
        check_paths(step.settings)
        start_lean()
        if str(self._scripts) not in sys.path:
            sys.path.insert(0, str(self._scripts))
        module = importlib.import_module(kind.module)
        with working_folder_left_out():
            return run_step(getattr(module, kind.function), step.settings, step.out)


def _placed(step: Step, cluster: str) -> Step:
    """The step on a cluster, if it is one that can run there."""
    if not cluster or not hasattr(step.settings, "cluster"):
        return step
    return dataclasses.replace(step, settings=dataclasses.replace(step.settings, cluster=cluster))


def report(out: Path) -> str:
    """Text with the minutes of each step, summed over its runs, and their sum."""
    minutes: dict[str, float] = {}
    for entry in read_json_lines(out / TIMES_FILE):
        minutes[entry["step"]] = minutes.get(entry["step"], 0.0) + entry["seconds"] / 60
    lines = [f"{step:28} {spent:6.1f} min" for step, spent in minutes.items()]
    return "\n".join([*lines, f"{'sum':28} {sum(minutes.values()):6.1f} min"])


def _note(out: Path, step: Step, seconds: float, code: int) -> None:
    append_json_line(out / TIMES_FILE, {"step": step.name, "seconds": round(seconds, 1), "code": code})


def _only_last(command: list[str]) -> list[str]:
    """The command without any --only but the last: a step's process runs only that step."""
    words, kept, skipping = command[:-2], [], False
    for word in words:
        if word == "--only":
            skipping = True
        elif word.startswith("--"):
            skipping = False
        if not skipping:
            kept.append(word)
    return [*kept, *command[-2:]]


def _differences(step: Step) -> list[str]:
    """Settings of a finished step that differ from the recipe."""
    path = step.out / CONFIG_FILE
    if not path.is_file():
        return []
    former: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    now = json.loads(configuration.dumps(step.settings))
    keys = [key for key in now if key not in _HARMLESS and former.get(key) != now[key]]
    return [f"{key}={former.get(key)!r}, not {now[key]!r}" for key in keys]
