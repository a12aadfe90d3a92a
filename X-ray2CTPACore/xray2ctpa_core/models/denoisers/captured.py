"""A denoiser's pass as a CUDA graph, which the host launches by one command instead of several hundred.

At batch 1, a GPU computes a pass of the papers' network in less time than the host needs to launch its
operations. A graph holds all of them, with the addresses that they read and write.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol

import torch

from xray2ctpa_core.errors import is_out_of_memory
from xray2ctpa_core.models.protocols import Conditioning

#: Number of graphs that are kept, one for each set of shapes; each occupies the memory of a pass.
GRAPHS = 4
#: Passes before a capture, during which libraries choose their kernels.
_WARM_UP = 2

#: A pass without arguments.
OnePass = Callable[[], torch.Tensor]
#: (function that repeats the pass, the tensor that it writes each time).
Recorded = tuple[Callable[[], None], torch.Tensor]


class Recorder(Protocol):
    """Makes a pass repeatable on one type of device."""

    device: str

    def record(self, one_pass: OnePass) -> Recorded:
        """Records the pass; raises RuntimeError if that is impossible."""


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
    """A denoiser (models.protocols.Denoiser) whose passes are captured, once for each set of shapes.

    Weights may change in place; if they are moved, a pass is captured again. A pass that cannot be captured
    is computed by the denoiser itself.

    Args:
        denoiser: reads only the embedding and the spatial features of a conditioning.
        recorder: records a pass.

    Attributes:
        reason: why the last call was not captured; "" if it was.
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
        """See Denoiser; the result is a tensor of the caller's own."""
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
        """Frees the graphs' memory."""
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
    """The input of a pass: its tensors in order, and the same input with other tensors of the same shapes."""

    def __init__(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> None:
        #: Names of the conditions; None if the conditioning is the embedding itself.
        self._parts: tuple[str, ...] | None = None
        conditions = [conditioning] if isinstance(conditioning, torch.Tensor) else []
        if isinstance(conditioning, Conditioning):
            found = {"embedding": conditioning.embedding, "spatial": conditioning.spatial}
            present = {name: tensor for name, tensor in found.items() if tensor is not None}
            self._parts, conditions = tuple(present), list(present.values())
        self.tensors: list[torch.Tensor] = [sample, timestep, *conditions]

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for inputs that the same captured pass can compute."""
        return (self._parts, *((tuple(t.shape), t.dtype, t.device) for t in self.tensors))

    def arguments(self, tensors: list[torch.Tensor]) -> tuple[Any, ...]:
        """The denoiser's arguments, with ``tensors`` instead of these."""
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
