"""Choice of device, precision and arithmetic of a run."""

from typing import Any

import torch
from torch import nn

from xray2ctpa_core.errors import DeviceError

#: "tf32" stores numbers in single precision and multiplies them with 10 bits of mantissa, faster than fp32.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str, precision: str) -> tuple[str, str, torch.dtype]:
    """Chooses device and precision on this machine, and sets the arithmetic of this process.

    Args:
        device: "auto" (CUDA if available, else the CPU), "cpu", "cuda" or "mps" (not tested).
        precision: "auto" (fp32, the precision that the bundle's numbers were measured in), "fp32", "tf32",
            "bf16" or "fp16".

    Returns:
        Device, precision and its dtype.

    Raises:
        DeviceError: this machine has no such device, or the device does not support the precision.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        device = "cuda" if available["cuda"] else "cpu"
    if not available[device]:
        here = ", ".join(name for name, there in available.items() if there)
        raise DeviceError(f"Expected the device {device}, got none on this machine.", f"It has: {here}.")
    precision = "fp32" if precision == "auto" else precision
    if device == "cpu" and precision == "fp16":
        raise DeviceError("Half precision fp16 needs a GPU, got the device cpu.", "Use fp32 or bf16 there.")
    if device != "cuda" and precision == "tf32":
        raise DeviceError(f"Precision tf32 needs CUDA, got the device {device}.", "Use fp32 or bf16 there.")
    set_arithmetic(precision)
    return device, precision, DTYPES[precision]


def set_arithmetic(precision: str) -> None:
    """Sets how a GPU multiplies; nothing else changes torch's switches.

    TF32 is on for "tf32" only. By default torch uses it for convolutions, which differ by up to 6e-3 from the
    released structure then. cuDNN uses deterministic kernels and does not choose them by timing.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def arithmetic() -> dict[str, Any]:
    """How a GPU multiplies in this process, for the record of a run."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return {
        "tf32": products if products == convolutions else "mixed",
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }


def channels_last(network: nn.Module) -> None:
    """Stores the weights of 2D convolutions with the channels last, which makes them faster on a CPU;
    outputs change by rounding only."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
