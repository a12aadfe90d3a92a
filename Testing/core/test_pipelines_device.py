"""Device and precision: what the words stand for on this machine, and a clear no for what it lacks."""

import pytest
import torch

from xray2ctpa_core.errors import DeviceError
from xray2ctpa_core.pipelines.device import arithmetic, choose_device, set_arithmetic


def test_auto_is_the_best_device_here_in_the_measured_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device("auto", "auto") == ("cpu", "fp32", torch.float32)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert choose_device("auto", "auto") == ("cpu", "fp32", torch.float32), "MPS is taken on request alone"
    assert choose_device("mps", "auto") == ("mps", "fp32", torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto", "bf16") == ("cuda", "bf16", torch.bfloat16)
    assert choose_device("cpu", "bf16") == ("cpu", "bf16", torch.bfloat16)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=device) as caught:
        choose_device(device, "auto")
    assert caught.value.exit_code == 5
    assert caught.value.hint == "It has: cpu."


def test_half_precision_needs_a_gpu() -> None:
    with pytest.raises(DeviceError, match="fp16"):
        choose_device("cpu", "fp16")


def test_tf32_needs_cuda() -> None:
    with pytest.raises(DeviceError, match="tf32 needs CUDA, got the device cpu"):
        choose_device("cpu", "tf32")


def test_tf32_is_chosen_and_never_an_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's own default has it on for convolutions."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, True
    for precision, on in (("fp32", False), ("tf32", True), ("bf16", False), ("auto", False)):
        _, _, dtype = choose_device("cuda", precision)
        assert arithmetic() == {"tf32": on, "cudnn_deterministic": True, "cudnn_benchmark": False}
        assert (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32) == (on, on)
        assert dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    torch.backends.cudnn.allow_tf32 = True
    assert arithmetic()["tf32"] == "mixed"
    set_arithmetic("fp32")
    assert arithmetic()["tf32"] is False
