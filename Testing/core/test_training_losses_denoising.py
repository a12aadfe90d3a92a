"""Every term of the papers' objective reaches the denoiser at every noise level, and nothing that is
frozen."""

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.diffusion.sampling import clean_estimate, clipped_epsilon
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.metrics.perceptual import perceptual_distance
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.codecs.codec import SliceCodec
from xray2ctpa_core.training.losses.denoising import (
    build_discriminator,
    discriminator_loss,
    embolism_loss,
    reach_weight,
    realism,
    slice_distance,
    within_range,
)
from xray2ctpa_core.training.settings.denoisers import ObjectiveWeights

GRID = (8, 8, 8)
SCHEDULER = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="epsilon", clip_sample=False)

Term = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def terms() -> dict[str, tuple[Term, torch.nn.Module]]:
    """Each term of (estimate, latents), and the frozen network in it."""
    torch.manual_seed(0)
    pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra")
    distance = perceptual_distance("efficientnet")
    autoencoder = AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
    ).requires_grad_(False)
    discriminator = build_discriminator(4, GRID, layers=2, width=8)
    classifier = PEClassifier(4, 8, 4, (2, 2), 0.0).eval().requires_grad_(False)
    where = torch.tensor([0.3, 0.9])
    return {
        "perceptual": (
            lambda x, z: slice_distance(distance, SliceCodec(autoencoder).decode_slices, x, z, where),
            autoencoder,
        ),
        "adversarial": (lambda x, z: realism(discriminator, x), discriminator),
        "classifier": (lambda x, z: embolism_loss(classifier(x), torch.tensor([0.0, 1.0]), 2.0), classifier),
    }


@pytest.mark.parametrize("timestep", [1, 500, 900, 999])
def test_every_term_sends_a_bounded_gradient_to_epsilon_and_none_to_what_is_frozen(timestep: int) -> None:
    times = torch.full((2,), timestep)
    latents, noise = torch.randn(2, 2, 4, *GRID, generator=torch.Generator().manual_seed(1))
    noisy = SCHEDULER.add_noise(latents, noise, times)
    for name, (term, frozen) in terms().items():
        epsilon = (0.7 * noise + 0.3 * latents).requires_grad_()
        estimate = within_range(clean_estimate(SCHEDULER, noisy, epsilon, times), latents)
        (reach_weight(SCHEDULER, times) * term(estimate, latents)).sum().backward()
        gradient = epsilon.grad
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        for case in gradient:
            assert 0 < case.norm() < 100, (name, timestep, float(case.norm()))
        assert all(p.grad is None for p in frozen.parameters()), name


def test_the_weight_is_the_inverse_of_how_far_epsilon_reaches() -> None:
    times = torch.tensor([1, 900])
    epsilon = torch.zeros(2, 1, 1, 1, 1, requires_grad=True)
    clean_estimate(SCHEDULER, torch.zeros(2, 1, 1, 1, 1), epsilon, times).sum().backward()
    assert epsilon.grad is not None
    reach = epsilon.grad.abs().flatten()
    assert reach[1] == pytest.approx(6, rel=0.1)
    weight = reach_weight(SCHEDULER, times)
    assert weight[0] == 1
    assert float(weight[1] * reach[1]) == pytest.approx(1, rel=1e-5)


def test_an_estimate_in_range_stays_and_a_larger_one_ends_at_twice_the_latents() -> None:
    latents = torch.ones(2, 1, 2, 2, 2)
    brought = within_range(torch.stack([1.5 * latents[0], -50 * latents[1]]), latents)
    assert torch.allclose(brought[0], 1.5 * latents[0])
    assert torch.allclose(brought[1], -2 * latents[1])


def test_the_discriminator_learns_from_both_and_sends_nothing_back() -> None:
    discriminator = build_discriminator(2, (16, 8, 8), layers=2, width=8)
    real, generated = torch.randn(2, 3, 2, 16, 8, 8)
    loss = discriminator_loss(discriminator, real, generated)
    loss.backward()
    assert all(
        p.grad is not None and p.grad.abs().max() > 0 for p in discriminator.parameters() if p.ndim > 1
    )
    perfect = torch.tensor(0.0)
    assert loss > perfect


def test_the_papers_discriminator_fits_the_papers_latents_and_small_ones_are_refused() -> None:
    discriminator = build_discriminator(4, (64, 32, 32))
    assert sum(m.weight.ndim == 5 for m in discriminator.modules() if hasattr(m, "weight")) >= 5
    with torch.no_grad():
        assert discriminator(torch.zeros(1, 4, 64, 32, 32))[-1].shape[:2] == (1, 1)
    with pytest.raises(ConfigError, match="too small for a discriminator of 4 layers"):
        build_discriminator(4, (8, 8, 8))
    with pytest.raises(ConfigError, match=r"perceptual_weight: .*greater than or equal to 0"):
        from_mapping(ObjectiveWeights, {"perceptual_weight": -1.0})


@pytest.mark.parametrize("timestep", [0, 500, 999])
def test_clipped_noise_implies_the_clipped_latents(timestep: int) -> None:
    times, sample = torch.tensor(timestep), torch.randn(1, 2, 4, 4, 4)
    predicted = torch.randn(sample.shape)
    clean = clean_estimate(SCHEDULER, sample, predicted, times)
    clipped = clipped_epsilon(SCHEDULER, sample, predicted, times, 1.5)
    if timestep < 999:  # there hardly any signal is left to tell
        implied = clean_estimate(SCHEDULER, sample, clipped, times)
        assert torch.allclose(implied, clean.clamp(-1.5, 1.5), atol=2e-2)
    assert (clipped - sample).abs().max() < 1e-3 or timestep < 999
