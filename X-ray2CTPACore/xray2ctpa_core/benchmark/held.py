"""Peak memory of a computation's tensors, which a GPU needs beside that of its libraries."""

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xray2ctpa_core.benchmark.decoding import our_decode, papers_decoder
from xray2ctpa_core.benchmark.sides import Scale, classifier
from xray2ctpa_core.models.codecs.slices import slices_at_once
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser

_MB = 1e6


def held_by_a_volume(
    network: PaperDenoiser,
    one_pass: Callable[[], object],
    explain: Callable[[], object],
    seed: int,
    device: torch.device,
    scale: Scale,
) -> dict[str, float]:
    """Peak memory for one volume, in MB.

    Args:
        network: the denoiser; the autoencoder has the same precision, the classifier single precision.
        one_pass, explain: run one pass of the denoiser, and the explanation by the classifier.
        seed: of the autoencoder's weights.
        device: where.
        scale: of latents and autoencoder.

    Returns:
        ``pass_mb``, ``decoding_mb`` of as many slices as are decoded at once (from one and two slices,
        extrapolated), ``explanation_mb``, all without the weights; ``weights_mb``; ``together_mb``, with all
        networks in memory, and ``in_turn_mb``, with one at a time.
    """
    decoder = papers_decoder(scale, seed).to(device, network.dtype)
    height, width = scale.latents[2:]
    slices = torch.zeros(2, scale.latents[0], height, width, device=device)
    one, two = (
        held_at_most(lambda n=n: our_decode(decoder, slices[:n], scale.factor), device)  # type: ignore[misc]
        for n in (1, 2)
    )
    at_once = min(slices_at_once(scale.factor * height, scale.factor * width), scale.latents[1])
    working = {
        "pass_mb": held_at_most(one_pass, device),
        "decoding_mb": one + (at_once - 1) * (two - one),
        "explanation_mb": held_at_most(explain, device),
    }
    weights = (weights_bytes(network), weights_bytes(decoder), weights_bytes(classifier(scale)))
    return {name: held / _MB for name, held in working.items()} | {
        "weights_mb": sum(weights) / _MB,
        "together_mb": (sum(weights) + max(working.values())) / _MB,
        "in_turn_mb": max(w + h for w, h in zip(weights, working.values(), strict=True)) / _MB,
    }


def held_at_most(call: Callable[[], object], device: torch.device) -> int:
    """Peak bytes of the tensors that ``call`` makes; tensors that existed before do not count.

    On a GPU the allocator's count is used. Elsewhere the storages of all operations' outputs are counted, so
    that the result does not depend on what a CPU's libraries allocate inside an operation.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _Storages() as storages:
        call()
    return storages.most


def weights_bytes(*networks: torch.nn.Module) -> int:
    """Bytes of the networks' parameters and buffers."""
    return sum(
        tensor.numel() * tensor.element_size()
        for network in networks
        for tensor in (*network.parameters(), *network.buffers())
    )


class _Storages(TorchDispatchMode):
    """Counts the bytes of the storages that operations made and that are still in use."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self._given: dict[int, StorageWeakRef] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        for tensor in _tensors((args, kwargs)):
            reference = StorageWeakRef(tensor.untyped_storage())
            if reference.cdata not in self._alive:
                self._given[reference.cdata] = reference
        out = func(*args, **(kwargs or {}))
        for tensor in _tensors(out):
            storage = tensor.untyped_storage()
            reference = StorageWeakRef(storage)
            if reference.cdata not in self._given:
                self._alive[reference.cdata] = (reference, storage.nbytes())
        self._alive = {key: kept for key, kept in self._alive.items() if not kept[0].expired()}
        self._given = {key: kept for key, kept in self._given.items() if not kept.expired()}
        self.most = max(self.most, sum(size for _, size in self._alive.values()))
        return out


def _tensors(tree: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
