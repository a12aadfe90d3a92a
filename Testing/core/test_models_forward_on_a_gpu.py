"""No denoiser's forward makes a tensor on the CPU, waits for the device, or has a shape that data decide: so
a CUDA graph can hold it. Shown on a fake device, without a GPU."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from fake_gpu import what_no_graph_holds
from torch import nn

from xray2ctpa_core.constants import DEFAULT_BUNDLE, DEFAULT_HU_WINDOW
from xray2ctpa_core.diffusion.alignment import align_map
from xray2ctpa_core.diffusion.residual import sampled_map, to_latents
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.models.denoisers.recon_net import ReconNet
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.denoisers.x2ct import X2CT
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser, complex_turn, real_turn, rotate
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.protocols import Conditioning
from xray2ctpa_core.pipelines.loading import resolve_bundle

Given = Callable[[], tuple[Any, ...]]


def of(batch: int, channels: int, grid: tuple[int, int, int], embedding: int, spatial: int = 0) -> Given:
    """Arguments of a denoiser; spatial features where there are any."""

    def given() -> tuple[Any, ...]:
        features = torch.randn(batch, spatial, *grid) if spatial else None
        condition = Conditioning(torch.randn(batch, embedding) if embedding else None, features)
        return torch.randn(batch, channels, *grid), torch.full((batch,), 500), condition

    return given


def radiograph(pixels: int) -> Given:
    """Arguments of a regressor."""
    return lambda: (
        torch.randn(1, 1, pixels, pixels, pixels),
        torch.zeros(1),
        Conditioning(spatial=torch.rand(1, 1, 1, pixels, pixels)),
    )


#: Constructors of every denoiser at the size it is used at, and its arguments.
DENOISERS: dict[str, tuple[Callable[[], nn.Module], Given]] = {
    "X-ray2CTPA": (PaperDenoiser, of(1, 4, (64, 32, 32), 512)),
    "X-ray2CTPA, batch": (PaperDenoiser, of(8, 4, (64, 32, 32), 512)),
    "XctDiff": (
        lambda: PaperDenoiser(8, 0, 64, spatial_channels=8, kernel=3, released_axes=True),
        of(1, 8, (32, 32, 32), 0, 8),
    ),
    "XctDiff, cross-attention": (
        lambda: PaperDenoiser(8, 0, 64, spatial_channels=8, cross_attention=True),
        of(2, 8, (32, 32, 32), 0, 8),
    ),
    "spatial": (
        lambda: SpatialDenoiser(6, 8, 512, residual_std=(1.0,) * 6, map_std=(0.1,) * 3),
        of(1, 9, (64, 32, 32), 512, 8),
    ),
    "global": (lambda: SpatialDenoiser(4, 0, 512), of(2, 4, (64, 32, 32), 512)),
    "bank": (
        lambda: SpatialDenoiser(12, 11, 256, channels=(32, 64), residual_std=(1.0,) * 12, map_std=(0.1,) * 3),
        of(2, 15, (32, 32, 32), 256, 11),
    ),
    "prior": (EmbeddingPrior, lambda: (torch.randn(2, 512), torch.full((2,), 5), torch.randn(2, 512))),
    "X2CT-CNN": (lambda: X2CT(64, blocks=(2, 2, 2), decoder=(16, 8, 8, 8)), radiograph(64)),
    "ReconNet": (lambda: ReconNet(32, 32, 16), radiograph(32)),
}


@pytest.mark.parametrize("name", DENOISERS)
def test_a_graph_can_hold_the_forward_of(name: str) -> None:
    assert what_no_graph_holds(*DENOISERS[name]) == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_can_in_half_precision(dtype: torch.dtype) -> None:
    make, given = DENOISERS["X-ray2CTPA"]

    def halved() -> tuple[Any, ...]:
        sample, timestep, condition = given()
        return sample.to(dtype), timestep, condition.embedding.to(dtype)

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        assert what_no_graph_holds(make, halved) == []
    finally:
        torch.set_default_dtype(before)


def test_a_graph_can_hold_the_tiny_decoder() -> None:
    class Decoded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = TinyDecoder(4, 8, 16, (1, 1))

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.decoder(latents)

    assert what_no_graph_holds(Decoded, lambda: (torch.randn(2, 4, 32, 32),)) == []


class OfTheShippedBundle(nn.Module):
    """What of it follows the denoiser: from the radiograph's image and what was diffused to latents, the map
    aligned in between."""

    def __init__(self) -> None:
        super().__init__()
        folder = resolve_bundle(DEFAULT_BUNDLE)
        of_encoder, of_denoiser = (
            json.loads((folder / part / "config.json").read_text(encoding="utf-8"))
            for part in ("xray_encoder", "denoiser")
        )
        self.encoder, self.denoiser = (
            BankEncoder.from_config(of_encoder),
            BankDenoiser.from_config(of_denoiser),
        )

    def forward(self, image: torch.Tensor, diffused: torch.Tensor) -> torch.Tensor:
        conditioning = self.encoder.condition(image)
        drawn = sampled_map(self.denoiser, conditioning, diffused, 0.3)
        aligned = align_map(self.encoder.atlas, drawn, image, DEFAULT_HU_WINDOW, 2)
        return to_latents(self.denoiser, conditioning, diffused, drawn, aligned)


def test_neither_the_shipped_encoder_nor_the_alignment_waits_for_the_gpu() -> None:
    def given() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.rand(1, 1, 256, 256), torch.randn(2, 20, 1, 1, 1)

    assert what_no_graph_holds(OfTheShippedBundle, given, "meta") == []


class Wrong(nn.Module):
    """Does one thing that no graph holds."""

    def __init__(self, wrong: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.wrong(x)


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (lambda x: torch.tensor([1.0, 2.0], device=x.device), "on the CPU"),  # a list is copied from the host
        (lambda x: torch.arange(2).to(x), "on the CPU"),
        (lambda x: x.cpu().to(x), "on the CPU"),
        (lambda x: x * float(x[0]), "waits for the device"),
        (lambda x: x[x > 0].sum(), "depends on data"),
        (lambda x: x.nonzero().sum(), "waits for the device"),
    ],
    ids=["list", "arange", "copy", "number", "mask", "nonzero"],
)
def test_what_no_graph_holds_is_found(wrong: Callable[[torch.Tensor], torch.Tensor], found: str) -> None:
    findings = what_no_graph_holds(lambda: Wrong(wrong), lambda: (torch.randn(2),))
    assert any(found in finding for finding in findings), findings


def test_pairs_turned_in_real_numbers_are_those_turned_as_complex_ones() -> None:
    """At a right angle (1, 2) becomes (-2, 1)."""
    angles = torch.tensor([[0.0, torch.pi / 2], [torch.pi, 0.3]])
    pairs = torch.tensor([[[1.0, 2.0, 1.0, 2.0], [1.0, 2.0, 3.0, 4.0]]])
    by_real, by_complex = pairs.clone(), pairs.clone()
    rotate(by_real, real_turn(angles))
    rotate(by_complex, complex_turn(angles))
    assert torch.allclose(by_real, by_complex, atol=1e-6)
    assert torch.allclose(by_real[0, 0], torch.tensor([1.0, 2.0, -2.0, 1.0]), atol=1e-6)


def test_the_papers_denoiser_by_real_turns_gives_what_it_gives_by_complex_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The way that a GPU takes, computed on the CPU."""
    from xray2ctpa_core.models.denoisers import x_ray2ctpa

    torch.manual_seed(0)
    network = PaperDenoiser(2, 6, 8, (1, 2), heads=2, head_dim=48).eval()
    given = (torch.randn(2, 2, 9, 8, 8), torch.tensor([7, 900]), torch.randn(2, 6))
    with torch.no_grad():
        expected = network(*given)
        monkeypatch.setattr(x_ray2ctpa, "complex_turn", real_turn)
        assert (network(*given) - expected).abs().max() < 1e-5
