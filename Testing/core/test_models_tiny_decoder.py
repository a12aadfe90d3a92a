"""The tiny decoder: sizes, standardised input, slices that do not see each other, and its file."""

from pathlib import Path

import pytest
import torch

from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder


@pytest.mark.parametrize(
    ("channels", "factor", "blocks", "fold"), [(4, 8, (1, 1), 4), (6, 4, (1,), 4), (2, 4, (1, 1, 1), 1)]
)
def test_latents_become_slices_of_factor_times_their_size(
    channels: int, factor: int, blocks: tuple[int, ...], fold: int
) -> None:
    decoder = TinyDecoder(channels, factor, 8, blocks)
    assert decoder.fold == fold
    assert decoder(torch.randn(3, channels, 4, 6)).shape == (3, 1, 4 * factor, 6 * factor)


@pytest.mark.parametrize(("factor", "blocks"), [(4, (1, 1, 1, 1)), (6, (1, 1, 1)), (8, ())])
def test_levels_that_lead_to_another_size_are_refused(factor: int, blocks: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=f"divides {factor} times"):
        TinyDecoder(4, factor, 8, blocks)


def test_latents_of_another_autoencoder_are_refused() -> None:
    with pytest.raises(InputError, match=r"latents of 4 channels .* got \(1, 6, 4, 4\)"):
        TinyDecoder(4, 8, 8, (1,))(torch.zeros(1, 6, 4, 4))


@torch.no_grad()
def test_a_slice_is_the_same_in_any_batch_and_under_any_scale_of_the_latents() -> None:
    torch.manual_seed(0)
    plain = TinyDecoder(2, 4, 8, (1, 1)).eval()
    scaled = TinyDecoder(2, 4, 8, (1, 1), (1.0, -3.0), (2.0, 0.5)).eval()
    scaled.decoder.load_state_dict(plain.decoder.state_dict())
    latents = torch.randn(5, 2, 4, 4)
    together = plain(latents)
    alone = torch.cat([plain(one[None]) for one in latents])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(together[0], together[1], atol=1e-3)
    given = latents * torch.tensor([2.0, 0.5]).reshape(1, 2, 1, 1) + torch.tensor([1.0, -3.0]).reshape(
        1, 2, 1, 1
    )
    assert torch.allclose(scaled(given), together, atol=1e-5)
    assert torch.equal(scaled.decode(given).sample, scaled(given))


@torch.no_grad()
def test_a_saved_decoder_is_read_as_it_was(tmp_path: Path) -> None:
    decoder = TinyDecoder(2, 4, 8, (1, 1), (1.0, -3.0), (2.0, 0.5)).eval()
    decoder.save_pretrained(tmp_path)
    latents = torch.randn(1, 2, 4, 4)
    assert torch.equal(TinyDecoder.from_pretrained(tmp_path).eval()(latents), decoder(latents))
