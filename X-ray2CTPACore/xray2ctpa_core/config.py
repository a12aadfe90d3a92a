"""Typed configurations: a dataclass, checked, printed, saved; an unknown key is an error."""

import dataclasses
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from xray2ctpa_core.errors import ConfigError, InputError

T = TypeVar("T")


def from_mapping(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds dataclass ``cls`` from ``values``.

    Lists become tuples. Classes made by ``data.settings.settings`` check every type and range, others those
    of plain numbers, texts and truth values.

    Raises:
        ConfigError: an unknown key, a wrong type, or a value out of its range; names class and key.
    """
    hints = get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise ConfigError(f"Unknown key(s) {unknown} for {cls.__name__}.", f"Known keys: {sorted(known)}.")
    converted = {}
    for key, value in values.items():
        value = _tuples(value)
        expected = hints[key]
        if expected is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if expected in (int, float, str, bool) and type(value) is not expected:
            raise ConfigError(f"{cls.__name__}.{key} needs {expected.__name__}, got {value!r}.")
        converted[key] = value
    try:
        return cls(**converted)
    except ValueError as error:
        raise ConfigError(f"{cls.__name__}: {_said(error)}") from error


def _tuples(value: Any) -> Any:
    """``value`` with tuples in place of lists, at any depth."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list | tuple) else value


def _said(error: ValueError) -> str:
    """What is wrong with which key, as pydantic found it, in a line."""
    found = error.errors() if hasattr(error, "errors") else []
    of_key = {".".join(map(str, item["loc"][:1])): item for item in reversed(found)}
    lines = [f"{key}: {item['msg']}, got {item['input']!r}" for key, item in reversed(of_key.items())]
    return "; ".join(lines) + "." if lines else str(error)


def part(cls: type[T], config: Any) -> T:
    """The fields of dataclass ``cls`` out of a configuration that has them all, and more."""
    return cls(**{f.name: getattr(config, f.name) for f in dataclasses.fields(cls)})  # type: ignore[arg-type]


def load(cls: type[T], path: Path) -> T:
    """Reads a JSON object from ``path`` into dataclass ``cls``."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a JSON object, got {type(values).__name__}.")
    return from_mapping(cls, values)


def dumps(config: Any) -> str:
    """The configuration as indented JSON."""
    return json.dumps(dataclasses.asdict(config), indent=2)


def save(config: Any, path: Path) -> None:
    """Writes the configuration as JSON, atomically."""
    write_text_atomically(Path(path), dumps(config) + "\n")


def write_json(path: Path, content: Any, indent: int = 2) -> None:
    """Writes ``content`` as indented JSON, atomically."""
    write_text_atomically(path, json.dumps(content, indent=indent) + "\n")


def write_json_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes a line of JSON for each record, atomically."""
    write_text_atomically(path, "".join(json.dumps(record) + "\n" for record in records))


def append_json_line(path: Path, record: Mapping[str, Any]) -> None:
    """Adds a line of JSON to ``path``, whose folder and file are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """What `append_json_line` wrote; nothing where there is no file. A last line that a kill cut off is
    removed from the file, so that the next one stands alone.

    Raises:
        InputError: a line that is no JSON object.
    """
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    if complete != text:
        write_text_atomically(path, complete)
    return [_record(path, number, line) for number, line in enumerate(complete.splitlines(), 1)]


def _record(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        return dict(json.loads(line))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"Expected an object of JSON in {path}, line {number}, got something else.", "Remove the file."
        ) from error


def write_text_atomically(path: Path, text: str) -> None:
    """Writes ``text`` so that ``path`` holds all of it or what it held before, though several processes
    write it."""
    with replacing(path, by_several=True) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing(path: Path, by_several: bool = False) -> Iterator[Path]:
    """A hidden place beside ``path``, with its suffix, for a file or a folder that replaces ``path`` when the
    block ends; an error leaves nothing, a killed process what the next call removes. With ``by_several``,
    processes that write the same ``path`` have a place each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{f'{os.getpid()}-' if by_several else ''}{path.name}")
    _remove(partial)
    try:
        yield partial
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(partial, path)
    finally:
        _remove(partial)


def _remove(path: Path) -> None:
    """Removes a file or a folder, if there is one and it can be removed: an error that is under way matters
    more."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()
