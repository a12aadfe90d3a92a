"""A forward on a GPU that is not there: fake tensors that claim CUDA, and what a graph could not hold."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Operations that wait for the device, or whose output's shape its data decide.
WAITING = {
    "_local_scalar_dense", "equal", "is_nonzero", "item", "masked_select", "nonzero", "unique_consecutive",
    "_unique", "_unique2",
}  # fmt: skip


class Findings(TorchDispatchMode):
    """Collects in ``found`` what a CUDA graph could not hold, and in ``counted`` how many operations ran."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.counted = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name in WAITING:
            self.found.append(f"{name} waits for the device{_line()}")
        output = func(*args, **(kwargs or {}))
        self.counted += 1
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, torch.Tensor)]
        if any(tensor.device.type == "cpu" for tensor in tensors):
            self.found.append(f"{name} gives a tensor on the CPU{_line()}")
        return output


def _line() -> str:
    ours = [frame for frame in traceback.extract_stack() if "xray2ctpa_core" in frame.filename]
    return f" ({ours[-1].filename.rsplit('/', 1)[-1]}:{ours[-1].lineno})" if ours else ""


@contextmanager
def fake_gpu(device: str = "cuda") -> Iterator[None]:
    """Within, tensors hold nothing and may lie on a CUDA device that this machine has not, or on the device
    meta."""
    with FakeTensorMode() if device == "cuda" else nullcontext(), torch.no_grad():
        yield


def what_no_graph_holds(
    make: Callable[[], torch.nn.Module], given: Callable[[], tuple[Any, ...]], device: str = "cuda"
) -> list[str]:
    """The findings in a forward of ``make()`` on ``given()``, both made on the fake GPU; none: [].

    A forward that computes gradients needs the device "meta": autograd asks for a true GPU.

    Raises:
        AssertionError: nothing was counted, or the output lies elsewhere.
    """
    with fake_gpu(device):
        with torch.device(device):
            network, arguments = make().eval(), given()
        findings = Findings()
        try:
            with findings:
                output = network(*arguments)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            return [*findings.found, f"depends on data: {error}"]
    assert findings.counted > 0
    assert output.device.type == device
    return findings.found
