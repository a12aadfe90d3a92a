"""A denoiser's pass as a CUDA graph: one command of the host in place of several hundred.

At batch 1 a pass of the papers' network takes a GPU less time than the host needs to ask for its operations.
A graph holds them all, with the addresses that they read and write, and is asked for at once.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch

from xray2ctpa_core.errors import is_out_of_memory
from xray2ctpa_core.models.protocols import Conditioning

#: Graphs kept, one for each set of shapes; each holds the memory of a pass.
GRAPHS = 4
#: Passes before a capture, in which libraries choose their kernels.
_WARM_UP = 2

#: A pass without arguments.
OnePass = Callable[[], torch.Tensor]
#: (does the pass again, the tensor that it writes each time).
Recorded = tuple[Callable[[], None], torch.Tensor]


class Recorder(Protocol):
    """Makes a pass repeatable on one type of device."""

    device: str

    def record(self, one_pass: OnePass) -> Recorded:
        """The pass, repeatable; raises RuntimeError where it cannot be."""


class CudaGraphs:
    """By torch.cuda.graph."""

    device = "cuda"

    def record(self, one_pass: OnePass) -> Recorded:
        """See Recorder."""
        aside, current = torch.cuda.Stream(), torch.cuda.current_stream()
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                one_pass()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = one_pass()
        return graph.replay, output


class CapturedDenoiser:
    """A denoiser (models.protocols.Denoiser) whose passes are captured, each set of shapes when first met.

    Weights may change in place, not be moved: then a pass is captured anew. What it cannot capture it lets
    the denoiser compute.

    Args:
        denoiser: reads of a conditioning its embedding and its spatial features alone.
        recorder: how.

    Attributes:
        reason: why the last call was not captured; "" where it was.
    """

    def __init__(self, denoiser: Any, recorder: Recorder | None = None) -> None:
        self.denoiser = denoiser
        self.reason = ""
        self._recorder: Recorder = recorder or CudaGraphs()
        self._passes: OrderedDict[tuple[Any, ...], _Pass] = OrderedDict()
        self._refused: dict[tuple[Any, ...], str] = {}

    @torch.no_grad()
    def __call__(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> torch.Tensor:
        """As the denoiser's; the result is the caller's own."""
        given = _Given(sample, timestep, conditioning)
        key = (*given.key, self._place_of_weights())
        self.reason = self._why_not(sample) or self._refused.get(key, "")
        if not self.reason and key not in self._passes:
            self._capture(key, given)
        if self.reason:
            return self.denoiser(sample, timestep, conditioning)
        self._passes.move_to_end(key)
        return self._passes[key](given)

    def forget(self) -> None:
        """Gives the graphs' memory back."""
        self._passes.clear()
        self._refused.clear()

    def _capture(self, key: tuple[Any, ...], given: "_Given") -> None:
        stale = [known for known in self._passes if known[-1] != key[-1]]
        oldest = list(self._passes)[: max(0, len(self._passes) - len(stale) + 1 - GRAPHS)]
        for known in {*stale, *oldest}:
            del self._passes[known]
        try:
            self._passes[key] = _Pass(self.denoiser, given, self._recorder)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.reason = self._refused[key] = f"the pass could not be captured: {str(error).splitlines()[0]}"

    def _why_not(self, sample: torch.Tensor) -> str:
        network = self.denoiser
        if sample.device.type != self._recorder.device:
            return f"the device {sample.device.type} captures nothing"
        if getattr(network, "training", False):
            return "the network is in training mode"
        if torch.is_autocast_enabled(sample.device.type):
            return "autocast casts weights anew in each pass"
        if hasattr(network, "_hf_hook"):
            return "networks take turns in the device's memory"
        return ""

    def _place_of_weights(self) -> int:
        first = next(self.denoiser.parameters(), None) if isinstance(self.denoiser, torch.nn.Module) else None
        return 0 if first is None else first.data_ptr()


class _Given:
    """What a pass reads: its tensors in order, and how to put others of the same shapes in their place."""

    def __init__(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> None:
        #: Names of the conditions; None where the conditioning is its embedding.
        self._parts: tuple[str, ...] | None = None
        conditions = [conditioning] if isinstance(conditioning, torch.Tensor) else []
        if isinstance(conditioning, Conditioning):
            found = {"embedding": conditioning.embedding, "spatial": conditioning.spatial}
            present = {name: tensor for name, tensor in found.items() if tensor is not None}
            self._parts, conditions = tuple(present), list(present.values())
        self.tensors: list[torch.Tensor] = [sample, timestep, *conditions]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal where a captured pass fits."""
        return (self._parts, *((tuple(t.shape), t.dtype, t.device) for t in self.tensors))

    def arguments(self, tensors: list[torch.Tensor]) -> tuple[Any, ...]:
        """Of the denoiser, with ``tensors`` in place of these."""
        sample, timestep, *conditions = tensors
        if self._parts is None:
            return sample, timestep, conditions[0]
        return sample, timestep, Conditioning(**dict(zip(self._parts, conditions, strict=True)))


class _Pass:
    """One captured pass and the tensors that it reads."""

    def __init__(self, denoiser: Any, given: _Given, recorder: Recorder) -> None:
        with torch.inference_mode(False), torch.no_grad():
            self._reads = [
                torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in given.tensors
            ]
            self._take(given)
            arguments = given.arguments(self._reads)
            self._again, self._output = recorder.record(lambda: denoiser(*arguments))

    def __call__(self, given: _Given) -> torch.Tensor:
        self._take(given)
        self._again()
        return self._output.clone()

    def _take(self, given: _Given) -> None:
        for read, tensor in zip(self._reads, given.tensors, strict=True):
            read.copy_(tensor)
