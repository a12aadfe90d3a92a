"""Errors during a training step name the studies of its batch, whichever library raised them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.data import Dataset, default_collate

from xray2ctpa_core.errors import DeviceError, InputError, XRay2CTPAError, is_out_of_memory

Item = dict[str, torch.Tensor]
#: Largest number of studies that an error names.
_NAMED = 8
#: Parts of the error messages that a full /dev/shm causes in torch's tensors, its workers and semaphores.
_SHARED_MEMORY = ("shared memory", "</torch_", "unable to mmap", "bus error", "no space left on device")


class NamedData(Dataset[tuple[int, Item]]):
    """``data``, indexed by (case, seed), with the case added to each item; errors name the study.

    ``data`` may have a method ``where(case)`` that describes the case; else messages give its number.
    """

    def __init__(self, data: Dataset[Item]) -> None:
        self._data = data

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]

    def __getitem__(self, item: tuple[int, int]) -> tuple[int, Item]:
        with naming(lambda: self.names([item[0]])):
            return item[0], self._data[item]  # type: ignore[index]

    def names(self, cases: Sequence[int]) -> str:
        """Description of ``cases``, for messages."""
        where: Callable[[int], str] = getattr(self._data, "where", lambda case: f"case {case + 1}")
        distinct = list(dict.fromkeys(where(case) for case in cases))
        more = f" and {len(distinct) - _NAMED} more" if len(distinct) > _NAMED else ""
        return ", ".join(distinct[:_NAMED]) + more

    def collate(self, items: Sequence[tuple[int, Item]]) -> Item:
        """The items as a batch."""
        with naming(lambda: self.names([case for case, _ in items])):
            return default_collate([item for _, item in items])


@contextmanager
def naming(studies: Callable[[], str]) -> Iterator[None]:
    """Context that turns an unforeseen error into an InputError (DeviceError for memory) naming
    ``studies``."""
    try:
        yield
    except XRay2CTPAError as error:
        if not error.message.startswith("Caught "):
            raise
        raise type(error)(_text(error)) from None  # torch's DataLoader put a traceback into its message
    except Exception as error:
        raise _named(error, studies()) from error


def _named(error: Exception, studies: str) -> XRay2CTPAError:
    text = _text(error)
    if any(sign in str(error).lower() for sign in _SHARED_MEMORY):
        return DeviceError(
            f"Expected room in shared memory (/dev/shm) for the processes that load data, got none: {text}",
            "Set workers=0, empty /dev/shm, or give the container more (docker run --shm-size).",
        )
    if is_out_of_memory(error):
        return DeviceError(
            f"Expected {studies} to fit in memory, got no room: {text}", "Set a smaller batch_size."
        )
    return InputError(f"Unexpected {type(error).__name__} with {studies}: {text}", "Is the study damaged?")


def _text(error: Any) -> str:
    """The error's message in one line, without the traceback that a worker process adds."""
    text = str(error)
    if text.startswith("Caught "):
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split())[:300]
