"""Which device and precision a run uses, and why not another; how exactly the device computes."""

from typing import Any

import torch

from xray2ctpa_core.errors import DeviceError

#: "tf32" holds numbers in single precision and multiplies them with 10 bits: the fast way beside fp32, which
#: is exact.
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(device: str, precision: str) -> tuple[str, str, torch.dtype]:
    """The device and precision that the words stand for on this machine; this process then computes so.

    Args:
        device: "auto" (CUDA where there is one, else the CPU), "cpu", "cuda" or "mps" (not tested).
        precision: "auto" (fp32, the precision that the bundle's numbers were measured in), "fp32", "tf32",
            "bf16" or "fp16".

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
    if device != "cuda" and precision == "tf32":
        raise DeviceError(f"Precision tf32 needs CUDA, got the device {device}.", "Use fp32 or bf16 there.")
    set_arithmetic(precision)
    return device, precision, DTYPES[precision]


def set_arithmetic(precision: str) -> None:
    """Sets how a GPU multiplies: the one place that touches torch's switches.

    TF32 is on for "tf32" alone; torch has it on for convolutions by default, which is 6e-3 away from the
    released structure. cuDNN takes kernels that give the same each time, and does not choose them by trial.
    """
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def arithmetic() -> dict[str, Any]:
    """How a GPU multiplies in this process, as torch says: for the record."""
    products, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return {
        "tf32": products if products == convolutions else "mixed",
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }
