"""The diffusion prior of CMKD: from a radiograph's embedding to the CTPA's, with the released tensor names.

A decoder-only causal transformer over single vectors (Ramesh et al., 2022, section 2.2, without text): null
tokens, the radiograph's embedding, the time, the noisy CTPA embedding and a query, whose output is the clean
CTPA embedding. Attention has one key and value head for all queries (Shazeer, 2019), uses cosines, and always
includes a learned null key; positions are encoded by rotation (Su et al., 2021) and by a relative bias
(Raffel et al., JMLR 2020).
"""

import math
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import Timesteps
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.protocols import Conditioning, embedding_of
from xray2ctpa_core.models.rotary import SharedFrequencies

#: Keys and values of the tokens before the input: a pair of (1, N, dim_head) for each layer.
Prefix = list[tuple[torch.Tensor, torch.Tensor]]

#: Factor of the cosines of queries and keys.
COSINE_SCALE = 16.0
#: Number of a head's dimensions that are rotated.
ROTARY_DIMS = 32
#: Relative positions: number of buckets, and the distance from which the last one is used.
BIAS_BUCKETS, BIAS_DISTANCE = 32, 128
#: Epsilon of the layer normalisation in single precision, and in any other.
EPS, EPS_OTHER = 1e-5, 1e-3
#: Constructor arguments by name: the release, and one that trains in minutes.
PRIOR_PRESETS: dict[str, dict[str, Any]] = {
    "released": {},
    "small": {
        "depth": 4, "heads": 6, "dim_head": 48, "num_timesteps": 64, "max_text_len": 0, "ff_mult": 1.0,
    },
}  # fmt: skip


class EmbeddingPrior(ModelMixin, ConfigMixin):
    """(noisy CTPA embedding, timestep, radiograph's embedding) -> clean CTPA embedding, with the same
    scaling.

    Args:
        dim: length of both embeddings and width of the tokens.
        depth, heads, dim_head, ff_mult: of the transformer.
        num_timesteps: rows of the time embedding; the schedule may have fewer. None computes the embedding
            from sines and cosines of the time by a small network, in place of a table.
        max_text_len: null tokens before the radiograph's, constants of the weights.
        num_time_embeds, num_image_embeds, num_text_embeds: tokens of time, noisy and radiograph's embedding.
        normformer: a normalisation inside the feed-forward (Shleifer et al., 2021).
        rotary_emb, norm_in, norm_out, final_proj: parts that the released constructor may leave out.
        attn_dropout, ff_dropout: in training.
    """

    @register_to_config
    def __init__(
        self,
        dim: int = 512,
        depth: int = 12,
        heads: int = 12,
        dim_head: int = 64,
        num_timesteps: int | None = 1000,
        max_text_len: int = 77,
        ff_mult: float = 4.0,
        num_time_embeds: int = 1,
        num_image_embeds: int = 1,
        num_text_embeds: int = 1,
        normformer: bool = True,
        rotary_emb: bool = True,
        norm_in: bool = False,
        norm_out: bool = True,
        final_proj: bool = True,
        attn_dropout: float = 0.05,
        ff_dropout: float = 0.05,
    ) -> None:
        super().__init__()
        if min(dim, depth, heads, dim_head, num_timesteps or 1) < 1 or num_timesteps == 0 or max_text_len < 0:
            raise ValueError("dim, depth, heads, dim_head and num_timesteps must be at least 1.")
        if num_timesteps is None and dim % 2:
            raise ValueError(f"A time embedding without a table needs an even dim, got {dim}.")
        self.to_time_embeds = nn.Sequential(
            nn.Embedding(num_timesteps, dim * num_time_embeds)
            if num_timesteps
            else nn.Sequential(
                Timesteps(dim, flip_sin_to_cos=False, downscale_freq_shift=1),
                _TimeNetwork(dim, dim * num_time_embeds),
            )
        )
        self.to_image_embeds = nn.Sequential(_several(dim, num_image_embeds))
        self.to_text_embeds = nn.Sequential(_several(dim, num_text_embeds))
        self.learned_query = nn.Parameter(torch.randn(dim))
        self.null_text_encodings = nn.Parameter(torch.randn(1, max_text_len, dim))
        self.null_text_embeds = nn.Parameter(torch.randn(1, num_text_embeds, dim))
        self.null_image_embed = nn.Parameter(torch.randn(1, dim))
        self.causal_transformer = _CausalTransformer(
            dim, depth, heads, dim_head, ff_mult, normformer, rotary_emb, norm_in, norm_out, final_proj,
            attn_dropout, ff_dropout,
        )  # fmt: skip

    def forward(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        conditioning: Conditioning | torch.Tensor,
        drop_conditioning: torch.Tensor | None = None,
        drop_sample: torch.Tensor | None = None,
        prefix: Prefix | None = None,
    ) -> torch.Tensor:
        """The clean CTPA embedding.

        Args:
            sample: (B, dim), noisy.
            timestep: (B,) whole numbers in [0, num_timesteps); any numbers where that is None.
            conditioning: (B, dim), the radiograph's, not scaled; or one that holds it.
            drop_conditioning: (B,) bool, cases for which the learned null embedding replaces it.
            drop_sample: (B,) bool, likewise for the noisy embedding.
            prefix: result of `prefix` for the present weights; without it the null tokens are computed again.

        Returns:
            (B, dim).
        """
        dim = self.config["dim"]
        given = self.to_text_embeds(embedding_of(conditioning)).unflatten(1, (-1, dim))
        noisy = self.to_image_embeds(sample).unflatten(1, (-1, dim))
        if drop_conditioning is not None:
            given = torch.where(drop_conditioning[:, None, None], self.null_text_embeds.to(given), given)
        if drop_sample is not None:
            noisy = torch.where(drop_sample[:, None, None], self.null_image_embed.to(noisy), noisy)
        times = timestep if self.config["num_timesteps"] is None else timestep.long()
        time = self.to_time_embeds(times).unflatten(1, (-1, dim))
        query = self.learned_query.expand(len(sample), 1, -1)
        tokens = [given, time.to(given), noisy, query.to(given)]
        if prefix is None:
            tokens.insert(0, self.null_text_encodings.expand(len(sample), -1, -1).to(given))
        return self.causal_transformer(torch.cat(tokens, 1), prefix)[0][:, -1]

    @torch.no_grad()
    def prefix(self) -> Prefix:
        """Keys and values of the null tokens. Attention is causal, so that they do not depend on the input;
        a step that receives them computes only the other tokens. Call it in evaluation mode."""
        if not self.config["max_text_len"]:
            return []
        return self.causal_transformer(self.null_text_encodings)[1]


class _TimeNetwork(nn.Module):
    """(B, dim) sines and cosines of the time -> (B, out)."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Sequential(nn.Linear(dim, 2 * out), nn.SiLU()),
            nn.Sequential(nn.Linear(2 * out, 2 * out), nn.SiLU()),
            nn.Linear(2 * out, out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)


def _several(dim: int, tokens: int) -> nn.Module:
    return nn.Linear(dim, dim * tokens) if tokens > 1 else nn.Identity()


class _LayerNorm(nn.Module):
    """Layer normalisation with a gain alone.

    Args:
        stable: whether the input is first divided by its largest value; if that is negative, all signs
            change, as in the release.
    """

    def __init__(self, dim: int, stable: bool = False) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(dim))
        self._stable = stable

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._stable:
            x = x / x.amax(-1, keepdim=True).detach()
        eps = EPS if x.dtype == torch.float32 else EPS_OTHER
        variance, mean = torch.var_mean(x, -1, correction=0, keepdim=True)
        return (x - mean) * (variance + eps).rsqrt() * self.g


class _Rotary(SharedFrequencies):
    """Rotation of pairs of neighbouring dimensions by the position (Su et al., 2021, eq. 34)."""

    def forward(self, start: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine (tokens, dims / 2), float32, of the positions from ``start``, for all layers."""
        positions = torch.arange(start, start + tokens, device=self.freqs.device)
        angles = positions[:, None] * self.freqs.float()
        return angles.cos(), angles.sin()


def _turned(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """x: (..., N, d) -> the same, with its first dimensions rotated."""
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    turned, rest = x.split([2 * cosine.shape[1], x.shape[-1] - 2 * cosine.shape[1]], -1)
    even, odd = turned[..., 0::2], turned[..., 1::2]
    turned = torch.stack([even * cosine - odd * sine, odd * cosine + even * sine], -1).flatten(-2)
    return torch.cat([turned, rest], -1)


class _RelativeBias(nn.Module):
    """A bias for each head that depends on the distance of a key (Raffel et al., 2020): half of the buckets
    for exact distances, half logarithmic. The null key counts as a column, so that a token and the one
    before it share bucket 0."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(BIAS_BUCKETS, heads)

    def forward(self, start: int, tokens: int) -> torch.Tensor:
        """(heads, tokens, 1 + start + tokens) of the rows from ``start``."""
        device = self.relative_attention_bias.weight.device
        rows = torch.arange(start, start + tokens, device=device)[:, None]
        back = (rows - torch.arange(1 + start + tokens, device=device)).clamp_min(0)
        exact = BIAS_BUCKETS // 2
        far = torch.log(back.clamp_min(1).float() / exact) / math.log(BIAS_DISTANCE / exact)
        bucket = (exact + (far * (BIAS_BUCKETS - exact)).long()).clamp_max(BIAS_BUCKETS - 1)
        bias = self.relative_attention_bias(torch.where(back < exact, back, bucket))
        return bias.permute(2, 0, 1)


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int, dim_head: int, dropout: float, rotary: _Rotary | None) -> None:
        super().__init__()
        self.norm = _LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.null_kv = nn.Parameter(torch.randn(2, dim_head))
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * dim_head, bias=False)
        self.rotary_emb = rotary
        self.to_out = nn.Sequential(nn.Linear(heads * dim_head, dim, bias=False), _LayerNorm(dim))
        self._heads = heads

    def forward(
        self,
        x: torch.Tensor,
        bias: torch.Tensor,
        turn: tuple[torch.Tensor, torch.Tensor] | None,
        past: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """x: (B, N, dim); bias: (heads, N, 1 + P + N), minus infinity at later keys; turn: of the rotation,
        if there is one; past: keys and values of the P tokens before. Returns the output, and the keys and
        values of all P + N tokens."""
        x = self.norm(x)
        queries = self.to_q(x).unflatten(-1, (self._heads, -1)).transpose(1, 2)
        keys, values = self.to_kv(x).chunk(2, -1)
        if turn is not None:
            queries, keys = _turned(queries, *turn), _turned(keys, *turn)
        if past is not None:
            keys, values = (
                torch.cat([old.expand(len(x), -1, -1), new], 1)
                for old, new in zip(past, (keys, values), strict=True)
            )
        null_key, null_value = self.null_kv.to(x).expand(len(x), -1, -1).split(1, 1)
        cosines = torch.einsum(
            "bhid,bjd->bhij",
            functional.normalize(queries, dim=-1),
            functional.normalize(torch.cat([null_key, keys], 1), dim=-1),
        )
        weights = (COSINE_SCALE * cosines + bias.to(x)).softmax(-1, dtype=torch.float32).to(x.dtype)
        mixed = torch.einsum("bhij,bjd->bhid", self.dropout(weights), torch.cat([null_value, values], 1))
        return self.to_out(mixed.transpose(1, 2).flatten(2)), (keys, values)


class _SwiGLU(nn.Module):
    """Shazeer, GLU Variants Improve Transformer, 2020; the gate is the second half."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        value, gate = x.chunk(2, -1)
        return value * functional.silu(gate)


class _CausalTransformer(nn.Module):
    def __init__(
        self,
        dim: int,
        depth: int,
        heads: int,
        dim_head: int,
        ff_mult: float,
        normformer: bool,
        rotary_emb: bool,
        norm_in: bool,
        norm_out: bool,
        final_proj: bool,
        attn_dropout: float,
        ff_dropout: float,
    ) -> None:
        super().__init__()
        self.init_norm = _LayerNorm(dim) if norm_in else nn.Identity()
        self.rel_pos_bias = _RelativeBias(heads)
        rotary = _Rotary(min(ROTARY_DIMS, dim_head)) if rotary_emb else None  # one for all layers
        inner = round(ff_mult * dim)
        self.layers = nn.ModuleList(
            nn.ModuleList(
                [
                    _Attention(dim, heads, dim_head, attn_dropout, rotary),
                    nn.Sequential(
                        _LayerNorm(dim),
                        nn.Linear(dim, 2 * inner, bias=False),
                        _SwiGLU(),
                        _LayerNorm(inner) if normformer else nn.Identity(),
                        nn.Dropout(ff_dropout),
                        nn.Linear(inner, dim, bias=False),
                    ),
                ]
            )
            for _ in range(depth)
        )
        self.norm = _LayerNorm(dim, stable=True) if norm_out else nn.Identity()
        self.project_out = nn.Linear(dim, dim, bias=False) if final_proj else nn.Identity()

    def forward(self, x: torch.Tensor, past: Prefix | None = None) -> tuple[torch.Tensor, Prefix]:
        """x: (B, N, dim) -> (B, N, dim), and a pair of keys and values of all tokens so far for each
        layer."""
        start = past[0][0].shape[1] if past else 0
        bias = self.rel_pos_bias(start, x.shape[1])
        later = torch.ones(bias.shape[1:], dtype=torch.bool, device=x.device).triu(start + 2)
        bias = bias.masked_fill(later, -torch.inf)
        rotary: Any = self.get_submodule("layers.0.0").rotary_emb  # all layers share it
        turn = None if rotary is None else rotary(start, x.shape[1])
        x = self.init_norm(x)
        present = []
        for number, layer in enumerate(self.layers):
            attention, feed_forward = layer.children()
            mixed, kept = attention(x, bias, turn, past[number] if past else None)
            present.append(kept)
            x = x + mixed
            x = x + feed_forward(x)
        return self.project_out(self.norm(x)), present
