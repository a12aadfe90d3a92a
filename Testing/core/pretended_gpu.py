"""A GPU that is pretended: tensors on the device "meta" that hold numbers, and how often they are waited for.

A whole call of a pipeline computes on it as on a CPU, and what the host reads off the device is counted by
stage. The device is "meta" because autograd asks for a true GPU.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from fake_gpu import WAITING
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from xray2ctpa_core.pipelines.stopwatch import Stopwatch

DEVICE = torch.device("meta")
#: Operations whose output's shape depends on a mask of booleans.
_MASKED = {"index", "index_put", "index_put_", "_index_put_impl_"}


class OnDevice(torch.Tensor):
    """A tensor that says it lies on the device; ``held`` are its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> "OnDevice":
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, held.size(), held.stride(), held.storage_offset(), dtype=held.dtype, device=DEVICE
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} outside of PretendedGpu")


class PretendedGpu(TorchDispatchMode):
    """Within, the device "meta" computes.

    Attributes:
        waits: (stage, operation and line) -> how often the host waited for the device there; the stage as of
            `Stopwatch.on`, "" outside.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.stage = ""

    def of(self, stage: str) -> int:
        """Number of waits in a stage."""
        return sum(count for (where, _), count in self.waits.items() if where == stage)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, OnDevice)]
        stays, asked = bool(given), kwargs.get("device")
        if asked is not None:
            stays = torch.device(asked) == DEVICE
            kwargs["device"] = torch.device("cpu")
        leaves = tree_leaves(args)
        masked = name in _MASKED and any(t.dtype == torch.bool for t in leaves[1:] if isinstance(t, OnDevice))
        copied = (
            name in ("copy_", "_copy_from") and given and not all(isinstance(t, OnDevice) for t in args[:2])
        )
        if given and (not stays or name in WAITING or masked or copied):
            self.waits[self.stage, f"{name} in {_line()}"] += 1
        known = {id(tensor.held): tensor for tensor in given}
        made = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not stays:
            return made

        def placed(value: Any) -> Any:
            if not isinstance(value, torch.Tensor):
                return value
            return known[id(value)] if id(value) in known else OnDevice(value)

        return tree_map(placed, made)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, OnDevice) else value


def _line() -> str:
    ours = [frame for frame in traceback.extract_stack() if "xray2ctpa_core" in frame.filename]
    return f"{ours[-1].filename.rsplit('/', 1)[-1]}:{ours[-1].lineno}" if ours else "?"


def place(*networks: nn.Module) -> None:
    """Moves networks to the device; within a `PretendedGpu`."""
    for network in networks:
        for module in network.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    moved = OnDevice(parameter.detach())
                    module._parameters[name] = nn.Parameter(moved, requires_grad=parameter.requires_grad)
            for name, buffer in module._buffers.items():
                if buffer is not None:
                    module._buffers[name] = OnDevice(buffer)


@contextmanager
def pretended_gpu() -> Iterator[PretendedGpu]:
    """A `PretendedGpu` that follows the stages of every `Stopwatch`."""
    gpu, on = PretendedGpu(), Stopwatch.on

    @contextmanager
    def following(self: Stopwatch, stage: str) -> Iterator[None]:
        before, gpu.stage = gpu.stage, stage
        with on(self, stage):
            yield
        gpu.stage = before

    Stopwatch.on = following  # type: ignore[method-assign]
    try:
        with gpu:
            yield gpu
    finally:
        Stopwatch.on = on  # type: ignore[method-assign]
