"""Recipes: TOML files that list the steps of a run and their settings; a recipe may extend a base recipe.

    about = "One line."
    base = "paper.toml"              # path relative to this file, which then holds only the differences
    steps = ["ctpa", "latents"]      # order; by default that of the base
    [run]                            # values that settings refer to as {name}; {out} always exists
    data = ""
    [ctpa]                           # settings of a step; they are merged into the base's, key by key
    root = "{data}"
    [other]
    kind = "ctpa"                    # kind of the step; by default its name
    like = "ctpa"                    # settings are taken from that step, then overridden

A step writes into the folder of its name in {out}. Tables that ``steps`` does not list are steps that run
only when they are named (--only).
"""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xray2ctpa_core import config as configuration
from xray2ctpa_core.data.settings import check_paths, key_docs
from xray2ctpa_core.errors import ConfigError, InputError

OUT = "out"
_RESERVED = ("about", "base", "steps", "run")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

Table = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        name: of the step, and of its folder in the folder of the run.
        kind: which settings class and function it has.
        settings: its settings, checked.
        out: its folder.
    """

    name: str
    kind: str
    settings: Any
    out: Path


@dataclass(frozen=True)
class Recipe:
    """A recipe, read and checked.

    Attributes:
        about: description in one line.
        out: folder of the run.
        run: values of [run].
        steps: in order.
        others: steps that run only when they are named.
    """

    about: str
    out: Path
    run: Table
    steps: tuple[Step, ...]
    others: tuple[Step, ...] = ()

    def chosen(self, names: Sequence[str]) -> tuple[Step, ...]:
        """The steps with these names, in the recipe's order; without names all of ``steps``.

        Raises:
            ConfigError: no step of that name.
        """
        everything = (*self.steps, *self.others)
        there = [step.name for step in everything]
        if unknown := [name for name in names if name not in there]:
            raise ConfigError(f"Expected steps out of {', '.join(there)}, got {', '.join(unknown)}.")
        return tuple(step for step in everything if step.name in names) if names else self.steps

    def check(self, steps: Sequence[Step]) -> None:
        """Raises an error for an input path of ``steps`` that does not exist and that no step makes."""
        for step in steps:
            try:
                check_paths(step.settings, later=(self.out,))
            except (ConfigError, InputError) as error:
                raise type(error)(f"Step {step.name}: {error.message}", error.hint) from None


def read_recipe(
    path: Path, run: Mapping[str, Any], changes: Sequence[str], kinds: Mapping[str, type]
) -> Recipe:
    """The recipe ``path`` with its bases.

    Args:
        path: TOML file.
        run: values of [run] from the command line; None keeps the recipe's.
        changes: "step.key=value" or "run.key=value" (a JSON value, else text).
        kinds: settings class of each kind.

    Raises:
        ConfigError: no such file, no TOML, an unknown kind, step, key or placeholder, a wrong type or a value
            out of its range; the message names step and key.
    """
    table = _merged(Path(path), ())
    names = table.get("steps", [])
    for change in changes:
        _change(table, change)
    values: Table = {OUT: "", **table.get("run", {}), **{k: v for k, v in run.items() if v is not None}}
    values = {key: _filled(value, values, "run") for key, value in values.items()}
    if not values[OUT]:
        raise ConfigError(f"Expected a folder of the run {path}, got none.", "Pass --out DIR.")
    out = Path(values[OUT])
    unlisted = [name for name in table if name not in (*_RESERVED, *names)]
    steps, others = (tuple(_step(table, n, out, values, kinds) for n in some) for some in (names, unlisted))
    return Recipe(str(table.get("about", "")), out, values, steps, others)


def recipe_about(path: Path) -> str:
    """The recipe's description in one line."""
    return str(_read(path).get("about", ""))


def describe(step: Step) -> str:
    """Text that lists the step's keys with value, default and meaning."""
    kind = type(step.settings)
    doc = (kind.__doc__ or "").strip().splitlines()[0]
    lines = [f"[{step.name}] {step.kind}: {doc}"]
    docs = key_docs(kind)
    for field in fields(kind):
        value = getattr(step.settings, field.name)
        default = "" if value == field.default else f" (default {_shown(field.default)})"
        lines.append(f"  {field.name} = {_shown(value)}{default}\n      {docs[field.name]}")
    return "\n".join(lines)


def _shown(value: Any) -> str:
    return json.dumps(value)


def _read(path: Path) -> Table:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"Expected the recipe {path}, got no such file.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"Expected a recipe in TOML in {path}, got: {error}.") from error


def _merged(path: Path, above: tuple[Path, ...]) -> Table:
    """The recipe's table over its base's."""
    if path.resolve() in above:
        raise ConfigError(f"Expected recipes without a circle of bases, got {path} as its own base.")
    table = _read(path)
    base = table.pop("base", None)
    if base is None:
        return table
    below = _merged(path.parent / base, (*above, path.resolve()))
    merged = below | {key: value for key, value in table.items() if not isinstance(value, dict)}
    for key, value in table.items():
        if isinstance(value, dict):
            merged[key] = below.get(key, {}) | value
    return merged


def _change(table: Table, change: str) -> None:
    """Sets one key of a step, or of [run]."""
    place, equals, text = change.partition("=")
    name, dot, key = place.rpartition(".")
    if not (equals and dot and key):
        raise ConfigError(f"Expected --set STEP.KEY=VALUE, got {change!r}.")
    if name != "run" and name not in table.get("steps", []) and name not in table:
        raise ConfigError(
            f"Expected a step out of {', '.join(table.get('steps', []))}, got {name!r} in --set {change}."
        )
    table[name] = table.get(name, {}) | {key: parsed(text)}


def parsed(text: str) -> Any:
    """A value of the command line: parsed as JSON where that is possible, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _step(table: Table, name: str, out: Path, run: Table, kinds: Mapping[str, type]) -> Step:
    values = _with_likes(table, name, ())
    kind = values.pop("kind", name)
    if kind not in kinds:
        raise ConfigError(f"Step {name}: expected a kind out of {', '.join(sorted(kinds))}, got {kind!r}.")
    filled = {key: _filled(value, run, f"{name}.{key}") for key, value in values.items()}
    try:
        settings: Any = configuration.from_mapping(kinds[kind], filled)
    except ConfigError as error:
        raise ConfigError(f"Step {name}: {error.message}", error.hint) from None
    return Step(name, kind, settings, out / name)


def _with_likes(table: Table, name: str, above: tuple[str, ...]) -> Table:
    """A step's settings, merged over those of the step named by ``like``."""
    if name in above:
        raise ConfigError(f"Step {name} is like itself: {' -> '.join((*above, name))}.")
    own = table.get(name)
    if not isinstance(own, dict):
        if own is None and name not in _RESERVED:
            return {}
        raise ConfigError(f"Expected a table [{name}] of settings, got {own!r}.")
    own = dict(own)
    like = own.pop("like", None)
    if like is None:
        return own
    if like not in table:
        raise ConfigError(f"Step {name}: expected the name of a step in like, got {like!r}.")
    return {"kind": like} | _with_likes(table, like, (*above, name)) | own


def _filled(value: Any, run: Table, where: str) -> Any:
    """``value`` with each {name} replaced by the run's value, which keeps its type where {name} is all."""
    if isinstance(value, list):
        return [_filled(item, run, where) for item in value]
    if not isinstance(value, str):
        return value
    for name in _PLACEHOLDER.findall(value):
        if name not in run:
            raise ConfigError(f"{where}: expected {{name}} out of {', '.join(run)}, got {{{name}}}.")
    if (alone := _PLACEHOLDER.fullmatch(value)) is not None:
        return run[alone[1]]
    return _PLACEHOLDER.sub(lambda found: str(run[found[1]]), value)
