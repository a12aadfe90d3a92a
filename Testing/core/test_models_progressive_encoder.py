"""XctDiff's progressive encoder and the denoiser that reads it: sizes, axes, what each part reaches."""

import pytest
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.encoders.progressive import ProgressiveEncoder
from xray2ctpa_core.models.protocols import Conditioning, Denoiser, RadiographEncoder

SMALL = {"width": 16, "multipliers": (1, 4), "blocks": 1, "depth": 8, "lifted_channels": 8}


def small(**changes: object) -> ProgressiveEncoder:
    torch.manual_seed(0)
    settings = SMALL | {"inner_channels": 8, "latent_channels": 4, "codes": 32, "groups": 8} | changes
    return ProgressiveEncoder(**settings).eval()  # type: ignore[arg-type]


def denoiser(**changes: object) -> PaperDenoiser:
    torch.manual_seed(0)
    settings = {"latent_channels": 4, "embedding_dim": 0, "width": 8, "multipliers": (1, 2), "heads": 2}
    return PaperDenoiser(**settings | {"groups": 4, "spatial_channels": 4} | changes).eval()  # type: ignore[arg-type]


def test_the_default_is_the_papers_size() -> None:
    with torch.device("meta"):
        encoder = ProgressiveEncoder(quantised=False)
        assert sum(p.numel() for p in encoder.parameters()) == 17_744_857
        assert sum(p.numel() for p in encoder.encoder.parameters()) == 17_207_264
        assert encoder.condition(torch.zeros(1, 1, 128, 128)).spatial.shape == (1, 8, 32, 32, 32)
        assert encoder.decoder(torch.zeros(1, 16, 32, 32, 32)).shape == (1, 1, 128, 128, 128)
        unet = PaperDenoiser(8, 0, 64, spatial_channels=8)
    assert sum(p.numel() for p in unet.parameters()) == 35_755_416


def test_parts_keep_to_their_protocols() -> None:
    assert isinstance(small(), RadiographEncoder)
    assert isinstance(denoiser(), Denoiser)


def test_the_papers_condition_lies_on_codes_and_the_releases_does_not() -> None:
    image = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        paper = small().condition(image).spatial
        release = small(quantised=False, homogeneous=False).condition(image).spatial
    assert len(paper.movedim(1, -1).reshape(-1, 4).round(decimals=4).unique(dim=0)) <= 32
    assert torch.allclose(paper.mean(1), torch.zeros(2, 8, 8, 8), atol=1e-4)
    assert len(release.movedim(1, -1).reshape(-1, 4).unique(dim=0)) > 500


def test_without_its_two_phases_the_features_are_those_of_the_image_at_every_depth() -> None:
    image = torch.rand(1, 1, 16, 16)
    flat, progressive = small(progressive=False, lifted_channels=8), small()
    with torch.no_grad():
        condition, volume = flat.condition(image).spatial, flat(image)[0]
        assert torch.equal(condition, condition[:, :, :, :1].expand_as(condition))
        assert condition[0, :, :, 0].std(0).mean() > 0.01
        lifted = progressive.condition(image).spatial
    assert condition.shape == lifted.shape == (1, 4, 8, 8, 8)
    assert not torch.equal(lifted, lifted[:, :, :, :1].expand_as(lifted))
    assert volume.shape == (1, 1, 32, 32, 32)


def test_rows_and_columns_of_the_image_stay_axes_of_the_features() -> None:
    """A change in the image's upper right corner is larger in the upper rows and the right columns."""
    encoder = small(middle_attention=False, quantised=False, homogeneous=False)
    image = torch.rand(1, 1, 16, 16)
    changed = image.clone()
    changed[..., :4, 12:] += 1
    with torch.no_grad():
        change = (encoder.condition(changed).spatial - encoder.condition(image).spatial).abs().sum(1)[0]
    rows, columns = change.sum((1, 2)), change.sum((0, 1))
    assert float(rows[:4].sum() / rows[4:].sum()) > 1.5
    assert float(columns[4:].sum() / columns[:4].sum()) > 1.5


def test_in_the_releases_axes_rows_from_the_top_become_the_last_axis_from_the_bottom() -> None:
    plain, turned = small(), small(released_axes=True)
    image = torch.rand(1, 1, 16, 16)
    theirs = image.transpose(2, 3).flip(3)
    with torch.no_grad():
        assert torch.equal(turned.condition(image).spatial, plain.condition(theirs).spatial.transpose(2, 4))
        assert torch.equal(turned(image)[0], plain(theirs)[0].transpose(2, 4))
    sample, features = torch.randn(1, 4, 4, 6, 8), torch.randn(1, 4, 4, 6, 8)
    time = torch.tensor([7])
    with torch.no_grad():
        found = denoiser(released_axes=True)(sample, time, Conditioning(spatial=features))
        expected = denoiser()(sample.transpose(2, 4), time, Conditioning(spatial=features.transpose(2, 4)))
    assert torch.equal(found, expected.transpose(2, 4))


def test_a_wrong_size_and_a_lift_that_does_not_divide_are_named() -> None:
    with pytest.raises(InputError, match=r"\(B, 1, 16, 16\), got \(1, 1, 32, 32\)"):
        small().condition(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ConfigError, match="depth = 64 channels, got 32"):
        small(multipliers=(1, 2))


@pytest.mark.parametrize("cross_attention", [False, True])
def test_the_noise_depends_on_the_features_once_trained(cross_attention: bool) -> None:
    network = denoiser(cross_attention=cross_attention)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("5.to_out.weight"):  # starts at zero
                parameter.normal_()
    sample, time = torch.randn(2, 4, 4, 8, 8), torch.tensor([7, 900])
    features = torch.randn(2, 4, 4, 8, 8, requires_grad=True)
    found = network(sample, time, Conditioning(spatial=features))
    assert found.shape == sample.shape
    found[0].square().sum().backward()
    assert float(features.grad[0].abs().sum()) > 0
    assert float(features.grad[1].abs().sum()) == 0


def test_cross_attention_reads_its_own_plane_and_starts_without_effect() -> None:
    network = denoiser(cross_attention=True)
    layer = network.downs[0][5]
    x, features = torch.randn(1, 4, 8, 8, 8), torch.randn(1, 4, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(layer(x, features), x)
        layer.to_out.weight.normal_()
        other = features.clone()
        other[:, :, 2] += 1
        moved = (layer(x, other) - layer(x, features)).abs().sum((0, 2, 3, 4))
    assert (moved > 0).tolist() == [False, False, True, False]
