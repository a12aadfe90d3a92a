"""The least time that arithmetic and memory allow: counted operations and bytes over measured rates.

The roofline of Williams et al. (Communications of the ACM 52, 2009), with measured rates of this machine as
the roof, not those that its vendor states.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from xray2ctpa_core.benchmark.timing import interleaved

#: Side of the square matrices, and (N, C, H, W) of the convolution, whose faster one is the peak.
_MATRIX, _IMAGES = 2048, (64, 64, 32, 32)
#: Bytes that are copied to measure bandwidth; far larger than any cache.
_COPIED = 256 << 20


@dataclass(frozen=True)
class Rates:
    """Measured rates of a device: floating point operations and bytes per second."""

    flops: float
    bandwidth: float


@dataclass(frozen=True)
class Floor:
    """The least time that one call needs.

    Attributes:
        flops: of products and convolutions; a multiplication and an addition count as two.
        moved: bytes read and written if each layer's input, weights and output pass through memory once.
        seconds: flops and bytes, each divided by its rate; the larger of the two.
    """

    flops: float
    moved: float
    seconds: float


def measured_rates(device: torch.device, dtype: torch.dtype, repeats: int = 3) -> Rates:
    """The best of ``repeats``: a large matrix product or a convolution, and a copy through memory."""
    a = torch.randn(_MATRIX, _MATRIX, device=device).to(dtype)
    images = torch.randn(_IMAGES, device=device).to(dtype).to(memory_format=torch.channels_last)
    kernel = torch.randn(_IMAGES[1], _IMAGES[1], 3, 3, device=device).to(dtype)
    source = torch.zeros(_COPIED, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    actions: dict[str, Callable[[], object]] = {
        "product": lambda: a @ a,
        "convolution": lambda: functional.conv2d(images, kernel, padding=1),
        "copy": lambda: target.copy_(source),
    }
    with torch.inference_mode():
        best = {name: min(times) for name, times in interleaved(actions, repeats, device).items()}
    count, channels, height, width = _IMAGES
    convolution = 2 * count * channels * channels * 9 * height * width
    return Rates(
        max(2 * _MATRIX**3 / best["product"], convolution / best["convolution"]), 2 * _COPIED / best["copy"]
    )


def counted_flops(call: Callable[[], object]) -> float:
    """Floating point operations of the products and convolutions in ``call``; attention is computed as plain
    products."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        call()
    return float(counter.get_total_flops())


def least_bytes(network: nn.Module, layers: tuple[type[nn.Module], ...], call: Callable[[], object]) -> float:
    """Bytes that ``call`` of ``network`` moves if each of its ``layers`` reads and writes memory once.

    Operations between the layers are assumed to be fused into them.
    """
    total = 0

    def count(module: nn.Module, given: tuple[object, ...], output: object) -> None:
        nonlocal total
        tensors = [t for t in (*given, output, *module.parameters()) if isinstance(t, torch.Tensor)]
        total += sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    chosen = [module for module in network.modules() if isinstance(module, layers)]
    inner = {id(part) for module in chosen for part in module.modules() if part is not module}
    hooks = [m.register_forward_hook(count) for m in chosen if id(m) not in inner]
    try:
        with torch.no_grad():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    return float(total)


def floor(flops: float, moved: float, rates: Rates) -> Floor:
    """The least time of ``flops`` operations and ``moved`` bytes at these rates."""
    return Floor(flops, moved, max(flops / rates.flops, moved / rates.bandwidth))
