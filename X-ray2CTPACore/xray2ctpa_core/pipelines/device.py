"""Which device and precision a run uses, and why not another."""

import torch
from torch import nn

from xray2ctpa_core.errors import DeviceError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str, precision: str) -> tuple[str, str, torch.dtype]:
    """The device and precision that the words stand for on this machine.

    Args:
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps" (not tested).
        precision: "auto" (fp32, the precision that the bundle's numbers were measured in), "fp32", "bf16"
            or "fp16".

    Returns:
        Device, precision and its dtype.

    Raises:
        DeviceError: this machine has no such device, or the device no such precision.
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
    return device, precision, DTYPES[precision]


def channels_last(network: nn.Module) -> None:
    """Stores the weights of 2D convolutions with their channels last, which makes them faster on a CPU;
    outputs stay the same but for rounding."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
