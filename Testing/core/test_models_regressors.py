"""X2CT and ReconNet as denoisers of one step: sizes, axes, and that they run in the pipeline's sampler."""

import pytest
import torch
from diffusers import DDIMScheduler

from xray2ctpa_core.diffusion.sampling import sample_latents
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.recon_net import ReconNet
from xray2ctpa_core.models.denoisers.x2ct import X2CT
from xray2ctpa_core.models.encoders.radiograph_itself import RadiographItself
from xray2ctpa_core.models.protocols import Conditioning, Denoiser, RadiographEncoder
from xray2ctpa_core.pipelines.loading import load_part


def x2ct() -> X2CT:
    torch.manual_seed(0)
    return X2CT(16, 8, (1, 1), 4, 8, (16, 8, 8)).eval()


def recon_net() -> ReconNet:
    torch.manual_seed(3)  # of others the last ReLU may let nothing through
    return ReconNet(32, 24, 8).eval()


def test_the_defaults_have_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        counts = [
            sum(p.numel() for p in network.parameters())
            for network in (X2CT(), ReconNet(128, 46, 256), ReconNet(128, 128, 64))
        ]
    assert counts == [29_384_481, 588_586_176, 36_802_384]


@pytest.mark.parametrize(
    ("make", "pixels", "grid"), [(x2ct, 16, (16, 16, 16)), (recon_net, 32, (32, 24, 32))]
)
def test_a_regressor_is_a_denoiser_whose_only_step_gives_what_it_regresses(
    make, pixels, grid, tmp_path
) -> None:
    network = make()
    assert isinstance(network, Denoiser)
    assert isinstance(RadiographItself(), RadiographEncoder)
    network.save_pretrained(tmp_path / "denoiser")
    RadiographItself().save_pretrained(tmp_path / "encoder")
    loaded = load_part(tmp_path / "denoiser")
    conditioning = load_part(tmp_path / "encoder").condition(torch.rand(1, 1, pixels, pixels))
    noise = torch.randn(1, 1, *grid)
    with torch.no_grad():
        regressed = network(noise, torch.tensor([999]), conditioning)
        assert torch.equal(network(torch.zeros(1), torch.tensor([3]), conditioning), regressed)
        scheduler = DDIMScheduler(prediction_type="sample", clip_sample=False)
        sampled = sample_latents(
            lambda sample, time: loaded(sample, time, conditioning),
            scheduler,
            noise,
            1,
            [torch.Generator()],
        )
    assert regressed.shape == (1, 1, *grid)
    assert regressed.std() > 0
    assert torch.allclose(sampled, regressed, atol=1e-6)


def test_the_upper_right_of_the_radiograph_is_the_volumes_head_and_last_column() -> None:
    """Rows from the top become the depth from the foot, columns stay; seen by the features' lift."""
    network = x2ct()
    image = torch.rand(1, 1, 16, 16)
    changed = image.clone()
    changed[..., :4, 12:] += 1
    volumes = []
    with torch.no_grad():
        for given in (image, changed):
            lifted = network.lift[-1](network.enter(given.flip(2)))
            volumes.append(lifted)
            assert lifted.shape == (1, 8, 16, 16, 16)
    change = (volumes[1] - volumes[0]).abs().sum((0, 1))
    rows, columns = change.sum((1, 2)), change.sum((0, 1))
    assert float(rows[8:].sum()) > 1.5 * float(rows[:8].sum())
    assert float(columns[8:].sum()) > 1.5 * float(columns[:8].sum())


def test_other_sizes_and_conditions_are_named() -> None:
    with pytest.raises(ConfigError, match="divisible by 4"):
        X2CT(18, 8, (1, 1), 4, 8, (16, 8, 8))
    with pytest.raises(ConfigError, match="divisible by 32"):
        ReconNet(48)
    with pytest.raises(ValueError, match="RadiographItself"):
        x2ct()(torch.zeros(1), torch.tensor([0]), Conditioning(embedding=torch.zeros(1, 4)))
