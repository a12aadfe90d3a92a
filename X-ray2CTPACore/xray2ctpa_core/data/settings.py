"""Typed settings of the training steps: dataclasses whose types, ranges and descriptions pydantic keeps.

Nothing here imports torch: a recipe is read, checked and described in a moment.
"""

from collections.abc import Iterator
from dataclasses import dataclass as record
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform, get_type_hints

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from xray2ctpa_core.errors import ConfigError, InputError

T = TypeVar("T")

_CONFIG = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


@dataclass_transform(frozen_default=True, kw_only_default=False)
def settings(cls: type[T]) -> type[T]:
    """A frozen dataclass: text is no number, 5 is no pair, and the text below a key describes it."""
    return dataclass(frozen=True, config=_CONFIG)(cls)  # type: ignore[return-value]


@record(frozen=True)
class _Exists:
    """Marks a path that is read: it must exist when its step begins."""

    optional: bool


Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Window = tuple[float, float]
Shape = tuple[Positive, Positive, Positive]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]
#: A file or folder that must exist; the same, or "" for none.
Existing = Annotated[str, _Exists(optional=False)]
ExistingOrNone = Annotated[str, _Exists(optional=True)]


@settings
class StudySource:
    """A data set on disk."""

    dataset: Literal["folder", "rspect", "lidc", "inspect", "ct-rate", "papers"] = "folder"
    """Layout of the data set; folder is your own."""
    root: Existing = "data"
    """Folder of the data set."""
    table: ExistingOrNone = ""
    """Table of the data set; of your own folder its studies.csv where it is empty."""
    radiographs: ExistingOrNone = ""
    """Folder of the radiographs where that is not root (papers, folder)."""
    metadata: ExistingOrNone = ""
    """Table of slopes and spacings of CT-RATE's first release."""
    label: str = ""
    """Column of the label (inspect, ct-rate)."""
    indeterminate_as_pe: bool = False
    """Whether RSPECT's indeterminate examinations count as PE, as in the papers."""
    check_files: bool = True
    """Whether every file must exist at the start; otherwise missing ones are logged and left out."""
    studies: Count = 0
    """Studies to take, from the first; 0 takes all."""


@settings
class ScalingConfig:
    """How latents are scaled."""

    scaling: Literal["standardised", "min-max"] = "standardised"
    """By the latents' own mean and deviation of each channel, or by the papers' range."""
    latent_low: float = -12.911299
    """Lowest value of min-max; the default is the release's for CTPA."""
    latent_high: float = 9.596558
    """Highest value of min-max; the default is the release's for CTPA."""
    latent_factor: float = 0.18215
    """Factor of min-max by which latents are multiplied first."""


def key_docs(cls: type[Any]) -> dict[str, str]:
    """The one-line description of each key, inherited ones included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, field in getattr(base, "__pydantic_fields__", {}).items():
            if field.description:
                docs[name] = field.description
    return docs


def read_paths(config: Any) -> Iterator[tuple[str, str]]:
    """(key, path) of each file or folder that a step reads; keys that are empty and may be are left out.

    Raises:
        ConfigError: a key that needs a path is empty.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = getattr(config, field.name)
        for mark in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(mark, _Exists) and value:
                yield field.name, value
            elif isinstance(mark, _Exists) and not mark.optional:
                raise ConfigError(f"Expected a path for {field.name}, got none.", f"Set {field.name}.")


def check_paths(config: Any, later: tuple[Path, ...] = ()) -> None:
    """Refuses a path that does not exist.

    Args:
        config: made by `settings`.
        later: what lies in these folders is made before the step begins.

    Raises:
        ConfigError: a key that needs a path is empty.
        InputError: a path does not exist; names key and path.
    """
    for key, value in read_paths(config):
        path = Path(value).absolute()
        made = any(path.is_relative_to(folder.absolute()) for folder in later)
        if not made and not path.exists() and "@" not in value:
            raise InputError(
                f"Expected {key}={value}, got no such file or folder.",
                f"Correct {key}, or get what it names.",
            )
