"""Typed settings of the training steps: dataclasses whose types and ranges pydantic checks.

Nothing here imports torch, so that recipes are checked and described quickly.
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
    """Makes ``cls`` a frozen dataclass without type conversion; the text below a key is its description."""
    return dataclass(frozen=True, config=_CONFIG)(cls)  # type: ignore[return-value]


@record(frozen=True)
class _Exists:
    """Marks an input path: it must exist when its step begins."""

    optional: bool


Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0)]
Window = tuple[float, float]
Shape = tuple[Positive, Positive, Positive]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]
EncoderName = Literal["biomedclip", "dinov2", "own", "radimagenet-resnet50", "small"]
#: A file or folder that must exist; the same, or "" for none.
Existing = Annotated[str, _Exists(optional=False)]
ExistingOrNone = Annotated[str, _Exists(optional=True)]
#: At least one folder, each of which must exist; the same, or none.
Folders = Annotated[tuple[str, ...], _Exists(optional=False)]
FoldersOrNone = Annotated[tuple[str, ...], _Exists(optional=True)]


@settings
class StudySource:
    """A data set on disk."""

    dataset: Literal["folder", "rspect", "lidc", "inspect", "ct-rate", "papers"] = "folder"
    """Layout of the data set; folder is for your own data."""
    root: Existing = "data"
    """Folder of the data set."""
    table: ExistingOrNone = ""
    """Table of the data set; empty takes studies.csv of your own folder."""
    radiographs: ExistingOrNone = ""
    """Folder of the radiographs, if other than root (papers, folder)."""
    metadata: ExistingOrNone = ""
    """Table of slopes and spacings of CT-RATE's first release."""
    label: str = ""
    """Column of the label (inspect, ct-rate)."""
    indeterminate_as_pe: bool = False
    """Whether RSPECT's indeterminate examinations count as PE, as in X-ray2CTPA."""
    check_files: bool = True
    """Whether every file must exist at the start; otherwise missing ones are logged and left out."""
    studies: Count = 0
    """Studies to take, from the first; 0 takes all."""
    drawn_splits: bool = False
    """Whether a data set without splits gets fixed ones by patient: of 100 about 70 train, 20 test."""


@settings
class ScalingConfig:
    """Scaling of latents."""

    scaling: Literal["standardised", "min-max"] = "standardised"
    """By the latents' own mean and deviation of each channel, or by X-ray2CTPA's range."""
    latent_low: float = -12.911299
    """Lowest value of min-max; the default is the release's for CTPA."""
    latent_high: float = 9.596558
    """Highest value of min-max; the default is the release's for CTPA."""
    latent_factor: float = 0.18215
    """Factor by which min-max first multiplies latents."""


def key_docs(cls: type[Any]) -> dict[str, str]:
    """The one-line description of each key, inherited ones included."""
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        for name, field in getattr(base, "__pydantic_fields__", {}).items():
            if field.description:
                docs[name] = field.description
    return docs


def read_paths(config: Any) -> Iterator[tuple[str, str]]:
    """(key, path) of each input file or folder of a step; empty optional keys are left out.

    Raises:
        ConfigError: a key that needs a path is empty.
    """
    hints = get_type_hints(type(config), include_extras=True)
    for field in fields(config):
        value = getattr(config, field.name)
        for mark in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(mark, _Exists) and value:
                yield from ((field.name, path) for path in (value if isinstance(value, tuple) else (value,)))
            elif isinstance(mark, _Exists) and not mark.optional:
                raise ConfigError(f"Expected a path for {field.name}, got none.", f"Set {field.name}.")


def check_paths(config: Any, later: tuple[Path, ...] = ()) -> None:
    """Raises an error for an input path that does not exist.

    Args:
        config: made by `settings`.
        later: folders whose content is made before the step begins.

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
                f"Correct {key}, or put the file or folder there.",
            )
