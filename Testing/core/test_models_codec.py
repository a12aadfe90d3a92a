"""Both codecs behind one interface, and which one a folder holds."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codec import Codec, SliceCodec
from xray2ctpa_core.models.codecs.volume_codec import SLAB, VolumeCodec
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.pipelines.codecs import load_codec


def slice_codec() -> SliceCodec:
    torch.manual_seed(0)
    return SliceCodec(
        AutoencoderKL(4, 4, block_out_channels=(8,), latent_channels=3, norm_num_groups=4)
    ).eval()


def volume_codec() -> VolumeCodec:
    torch.manual_seed(0)
    return VolumeCodec(VQGAN((4, 8), (2,), 1, 3, 16, groups=4)).eval()


CODECS: dict[str, Callable[[], Codec]] = {"vae": slice_codec, "vqgan": volume_codec}
GRIDS = {"vae": (8, 8, 8), "vqgan": (4, 8, 8)}


@pytest.mark.parametrize("kind", CODECS)
def test_a_codec_gives_latents_of_a_volume_a_volume_of_latents_and_slices_of_that(kind: str) -> None:
    codec = CODECS[kind]()
    volumes = torch.rand(2, 1, 8, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = codec.encode(volumes)
        decoded = codec.decode(latents)
        slices = codec.decode_slices(latents, torch.tensor([0.0, 0.7]))
    assert latents.shape == (2, 3, *GRIDS[kind])
    assert decoded.shape == volumes.shape
    assert torch.allclose(slices, torch.stack([decoded[0, :, 0], decoded[1, :, 5]]), atol=1e-5)


def test_the_2d_codec_reads_every_slice_alone_and_folded() -> None:
    codec, volume = slice_codec(), torch.rand(1, 1, 8, 16, 16) * 2 - 1
    folded = functional.pixel_unshuffle(volume[0].transpose(0, 1), 2)
    with torch.no_grad():
        latents = codec.autoencoder.encode(folded).latent_dist.mean
        decoded = functional.pixel_shuffle(codec.autoencoder.decode(latents).sample, 2)
        assert torch.equal(codec.encode(volume)[0], latents.transpose(0, 1))
        assert torch.equal(codec.decode(latents.transpose(0, 1)[None])[0], decoded.transpose(0, 1))


@pytest.mark.parametrize("kind", CODECS)
def test_a_channels_gain_is_how_much_the_decoded_volume_follows_it(kind: str) -> None:
    codec = CODECS[kind]()
    latents = torch.randn(3, *GRIDS[kind])
    gains = codec.channel_gains(latents, torch.tensor([0.0, 1.0, 1.0]))
    assert gains[0] == 0
    assert gains[1] > 0
    assert gains[2] > 0


@pytest.mark.parametrize("kind", CODECS)
def test_a_slice_sends_its_gradient_to_the_latents_around_it(kind: str) -> None:
    codec = CODECS[kind]()
    depth = 3 * SLAB
    latents = torch.randn(2, 3, depth, 8, 8).requires_grad_()
    slices = codec.decode_slices(latents, torch.tensor([0.0, 0.5]))
    assert slices.shape == (2, 1, 16, 16)
    slices.square().sum().backward()
    assert latents.grad is not None
    reached = [set(case.abs().sum((0, 2, 3)).nonzero().flatten().tolist()) for case in latents.grad]
    middle = depth // 2
    if kind == "vae":
        assert reached == [{0}, {middle}]
    else:
        assert reached == [set(range(SLAB)), set(range(middle - SLAB // 2, middle + SLAB // 2))]


@pytest.mark.parametrize("kind", CODECS)
def test_a_folder_says_which_codec_it_holds(kind: str, tmp_path: Path) -> None:
    codec = CODECS[kind]()
    (network,) = codec.children()
    network.save_pretrained(tmp_path)  # type: ignore[operator]
    again = load_codec(tmp_path)
    assert type(again) is type(codec)
    assert not again.training
    latents = torch.randn(1, 3, *GRIDS[kind])
    with torch.no_grad():
        assert torch.equal(again.decode(latents), codec.decode(latents))


def test_a_folder_of_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(ConfigError, match="got a UNet2DModel"):
        load_codec(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"got a config.json of neither"):
        load_codec(tmp_path)
