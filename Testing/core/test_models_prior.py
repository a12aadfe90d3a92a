"""CMKD's prior against an independent computation of the published description, one number at a time."""

import math
from collections.abc import Mapping

import pytest
import torch
from prior_weights import DIM, TINY, random_prior

from xray2ctpa_core.models.denoisers.prior import PRIOR_PRESETS, EmbeddingPrior
from xray2ctpa_core.models.protocols import Conditioning


def normalised(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean()
    return centred / math.sqrt(float((centred**2).mean()) + 1e-5) * gain


def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
    """The first 32 numbers of a head (all of a smaller one), two by two, turned by position / 10000^(i/d)."""
    out, turned = x.clone(), min(32, len(x))
    for pair in range(turned // 2):
        angle = position / 10_000 ** (2 * pair / turned)
        a, b = float(x[2 * pair]), float(x[2 * pair + 1])
        out[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
    return out


def bucket(row: int, column: int) -> int:
    """T5's bucket of a key that lies row - column back, the null key being column 0."""
    back = max(row - column, 0)
    if back < 16:
        return back
    return min(16 + int(math.log(back / 16) / math.log(128 / 16) * 16), 31)


def described(w: Mapping[str, torch.Tensor], tokens: list[torch.Tensor]) -> torch.Tensor:
    """The last token's output by loops over tokens, heads and keys, from the description alone."""
    t = "causal_transformer."
    depth = 1 + max(int(name.split(".")[2]) for name in w if name.startswith(f"{t}layers."))
    bias = w[f"{t}rel_pos_bias.relative_attention_bias.weight"]
    heads, x = bias.shape[1], list(tokens)
    for layer in range(depth):
        a, f = f"{t}layers.{layer}.0.", f"{t}layers.{layer}.1."
        normed = [normalised(token, w[f"{a}norm.g"]) for token in x]
        keys, values = [w[f"{a}null_kv"][0]], [w[f"{a}null_kv"][1]]
        for position, token in enumerate(normed):
            key, value = (w[f"{a}to_kv.weight"] @ token).chunk(2)
            keys.append(rotated(key, position))
            values.append(value)
        mixed = []
        for row, token in enumerate(normed):
            queries = (w[f"{a}to_q.weight"] @ token).reshape(heads, -1)
            read = []
            for head, query in enumerate(queries):
                q = rotated(query, row)
                scores = torch.stack(
                    [
                        16 * (q @ keys[j]) / (q.norm() * keys[j].norm()) + bias[bucket(row, j), head]
                        for j in range(row + 2)
                    ]
                )
                share = scores.exp() / scores.exp().sum()
                read.append(sum(share[j] * values[j] for j in range(row + 2)))
            mixed.append(normalised(w[f"{a}to_out.0.weight"] @ torch.cat(read), w[f"{a}to_out.1.g"]))
        x = [token + more for token, more in zip(x, mixed, strict=True)]
        for row, token in enumerate(x):
            value, gate = (w[f"{f}1.weight"] @ normalised(token, w[f"{f}0.g"])).chunk(2)
            inner = normalised(value * gate * gate.sigmoid(), w[f"{f}3.g"])
            x[row] = token + w[f"{f}5.weight"] @ inner
    last = x[-1] / x[-1].max()
    return w[f"{t}project_out.weight"] @ normalised(last, w[f"{t}norm.g"])


def inputs(batch: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sample = 3 * torch.randn(batch, DIM, generator=generator)
    return sample, torch.tensor([5, 63][:batch]), torch.randn(batch, DIM, generator=generator)


@pytest.mark.parametrize("dropped", ["nothing", "conditioning", "sample", "both"])
def test_the_prior_computes_what_is_described(dropped: str) -> None:
    prior = random_prior()
    w = prior.state_dict()
    sample, timestep, conditioning = inputs()
    everywhere = torch.ones(2, dtype=torch.bool)
    drop = {
        "drop_conditioning": everywhere if dropped in ("conditioning", "both") else None,
        "drop_sample": everywhere if dropped in ("sample", "both") else None,
    }
    with torch.no_grad():
        found = prior(sample, timestep, conditioning, **drop)
    for row in range(2):
        tokens = [
            *w["null_text_encodings"][0],
            conditioning[row] if drop["drop_conditioning"] is None else w["null_text_embeds"][0, 0],
            w["to_time_embeds.0.weight"][timestep[row]],
            sample[row] if drop["drop_sample"] is None else w["null_image_embed"][0],
            w["learned_query"],
        ]
        torch.testing.assert_close(found[row], described(w, tokens), rtol=1e-5, atol=1e-5)


def test_positions_beyond_sixteen_share_logarithmic_buckets() -> None:
    prior = random_prior(max_text_len=20)
    w = prior.state_dict()
    sample, timestep, conditioning = inputs(1)
    tokens = [*w["null_text_encodings"][0], conditioning[0], w["to_time_embeds.0.weight"][5], sample[0]]
    with torch.no_grad():
        found = prior(sample, timestep, conditioning)[0]
    expected = described(w, [*tokens, w["learned_query"]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_prior_without_a_table_of_times_computes_their_embedding_from_sines_and_cosines() -> None:
    prior = random_prior(num_timesteps=None)
    w = prior.state_dict()
    sample, _, conditioning = inputs(1)
    time = 17.5
    angles = [time / 10_000 ** (place / (DIM // 2 - 1)) for place in range(DIM // 2)]
    x = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles])
    for layer in ("0.0", "1.0"):
        x = w[f"to_time_embeds.0.1.net.{layer}.weight"] @ x + w[f"to_time_embeds.0.1.net.{layer}.bias"]
        x = x / (1 + (-x).exp())
    x = w["to_time_embeds.0.1.net.2.weight"] @ x + w["to_time_embeds.0.1.net.2.bias"]
    with torch.no_grad():
        found = prior(sample, torch.tensor([time]), conditioning)[0]
    expected = described(w, [*w["null_text_encodings"][0], conditioning[0], x, sample[0], w["learned_query"]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_released_size_has_its_parameters_and_tensors() -> None:
    with torch.device("meta"):
        prior = EmbeddingPrior()
    assert sum(p.numel() for p in prior.parameters()) == 48_832_912
    assert sum(p.numel() for p in prior.parameters() if p.requires_grad) == 48_832_896
    assert len(prior.state_dict()) == 140
    assert prior.state_dict()["causal_transformer.layers.11.0.to_q.weight"].shape == (768, 512)
    assert prior.state_dict()["causal_transformer.layers.0.1.1.weight"].shape == (4096, 512)
    assert prior.state_dict()["causal_transformer.layers.3.0.rotary_emb.freqs"].shape == (16,)


def test_cached_null_tokens_change_nothing() -> None:
    prior = random_prior()
    sample, timestep, conditioning = inputs()
    with torch.no_grad():
        prefix = prior.prefix()
        whole, short = (
            prior(sample, timestep, conditioning),
            prior(sample, timestep, conditioning, prefix=prefix),
        )
    assert len(prefix) == TINY["depth"]
    assert prefix[0][0].shape == (1, TINY["max_text_len"], TINY["dim_head"])
    torch.testing.assert_close(whole, short, rtol=1e-5, atol=1e-5)


def test_the_embedding_of_a_conditioning_is_read() -> None:
    prior = random_prior()
    sample, timestep, conditioning = inputs()
    with torch.no_grad():
        assert torch.equal(
            prior(sample, timestep, conditioning),
            prior(sample, timestep, Conditioning(embedding=conditioning)),
        )


def test_the_small_preset_has_a_tenth_of_the_parameters_and_no_null_tokens() -> None:
    small = EmbeddingPrior(**PRIOR_PRESETS["small"]).eval()
    assert sum(p.numel() for p in small.parameters()) < 4_900_000
    assert small.prefix() == []
    sample, conditioning = torch.randn(1, 512), torch.randn(1, 512)
    with torch.no_grad():
        assert small(sample, torch.tensor([63]), conditioning).shape == (1, 512)


def test_a_gradient_reaches_every_weight_that_an_input_uses() -> None:
    prior = random_prior().train()
    sample, timestep, conditioning = inputs()
    drop = torch.tensor([True, False])
    prior(sample, timestep, conditioning, drop_conditioning=drop, drop_sample=~drop).square().sum().backward()
    without = [n for n, p in prior.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_an_impossible_size_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        EmbeddingPrior(depth=0)
