"""A single case's convolution is that of torch, by a quicker way."""

import pytest
import torch
from torch import nn

from xray2ctpa_core.models.convolution import Conv3d


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (2, 2, 0), (1, 1, 0)])
@pytest.mark.parametrize("cases", [1, 2])
def test_values_and_gradients_are_torchs(size: int, stride: int, padding: int, cases: int) -> None:
    torch.manual_seed(0)
    ours, theirs = (kind(3, 5, size, stride, padding) for kind in (Conv3d, nn.Conv3d))
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(cases, 3, 6, 4, 8)
    mine, expected = ours(x), theirs(x)
    assert torch.allclose(mine, expected, atol=1e-5)
    weights = torch.randn_like(expected)
    (mine * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.allclose(ours.weight.grad, theirs.weight.grad, atol=1e-4)
    assert torch.allclose(ours.bias.grad, theirs.bias.grad, atol=1e-4)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")
def test_a_single_case_in_single_precision_takes_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    quick = torch.mkldnn_convolution
    monkeypatch.setattr(torch, "mkldnn_convolution", lambda *given: calls.append(1) or quick(*given))
    layer = Conv3d(2, 2, 3, padding=1)
    layer(torch.randn(1, 2, 4, 4, 4))
    assert calls == [1]
    layer(torch.randn(2, 2, 4, 4, 4))
    layer.double()(torch.randn(1, 2, 4, 4, 4).double())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.float()(torch.randn(1, 2, 4, 4, 4)).dtype == torch.bfloat16
    assert calls == [1]
