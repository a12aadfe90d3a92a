"""The papers' denoiser: convolutions within slices, attention within slices and along the depth (X-ray2CTPA,
eq. 5).

The U-Net of Ho et al. (Video diffusion models, 2022) on latents. Names and shapes of its tensors are those of
the released network, so that a checkpoint in the published format fits; the containers ``fn`` are there for
this reason only. Inside, tensors are (B, D, H, W, C): convolutions are 2D and act on slices, projections and
gains act on the last axis.

On a CPU, attention is computed for a few slices, or a few columns along the depth, at a time
(models.denoisers.attention_on_cpu says why).

A forward pass makes every tensor on the device of its input and never waits for the device, so that a pass
on a GPU can be captured in a graph (models.denoisers.captured).
"""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.axes import exchange
from xray2ctpa_core.models.denoisers import attention_on_cpu
from xray2ctpa_core.models.denoisers.cross_attention import PlaneCrossAttention
from xray2ctpa_core.models.protocols import Conditioning, embedding_of
from xray2ctpa_core.models.rotary import SharedFrequencies

#: Features of an attention head within slices, and number of features that are rotated; heads along the
#: depth may have another number.
HEAD_DIM = 32
#: Distances along the depth at which the next bucket of the relative position bias begins, for both signs
#: (Raffel et al. 2020, with 32 buckets and a largest distance of 32): 1 to 8 in steps of one, then by
#: factors of 2 ** (1/4).
BUCKET_STARTS = (*range(1, 8), *(math.ceil(8 * 2 ** (step / 4)) for step in range(8)))


class Positions(NamedTuple):
    """The encoding of positions along the depth, the same in every layer.

    Attributes:
        rotation: result of `complex_turn` or `real_turn`, which rotates the pairs of features of all
            queries, then of all keys.
        bias: (1, heads, D, D), added to the logits of attention.
    """

    rotation: torch.Tensor
    bias: torch.Tensor


class _SliceConv(nn.Conv3d):
    """Convolution (1, k, k) in the slice's plane; a stride of 2 halves H and W."""

    def __init__(self, channels_in: int, channels_out: int, size: int, stride: int = 1) -> None:
        pad = (size - stride) // 2
        super().__init__(channels_in, channels_out, (1, size, size), (1, stride, stride), (0, pad, pad))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = x.flatten(0, 1).permute(0, 3, 1, 2)
        weight = self.weight[:, :, 0]
        y = functional.conv2d(slices, weight, self.bias, self.stride[1], self.padding[1])  # type: ignore[arg-type]
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class _SliceUpsample(nn.ConvTranspose3d):
    """Transposed convolution that doubles H and W."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, (1, 4, 4), (1, 2, 2), (0, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        slices = x.flatten(0, 1).permute(0, 3, 1, 2)
        y = functional.conv_transpose2d(slices, self.weight[:, :, 0], self.bias, stride=2, padding=1)
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class _PointConv3d(nn.Conv3d):
    """Convolution of size 1, as a projection of the last axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.flatten(1), self.bias)


class _PointConv2d(nn.Conv2d):
    """Convolution of size 1, as a projection of the last axis."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, self.weight.flatten(1), self.bias)


class _GroupNorm(nn.GroupNorm):
    """Group normalisation over groups of channels and the whole volume."""

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, modulation: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """``modulation`` is a scale and a shift, each (B, C). On a CPU, a single case is normalised and
        modulated in one operation. A GPU uses the same operations for any number of cases, so that a case's
        result does not depend on the number."""
        weight: torch.Tensor = self.weight
        bias: torch.Tensor = self.bias
        folded = modulation is not None and len(x) == 1 and x.device.type == "cpu"
        if modulation is not None and folded:
            weight, bias = (
                weight * (modulation[0][0] + 1),
                torch.addcmul(modulation[1][0], bias, modulation[0][0] + 1),
            )
        channels_first = x.flatten(1, 2).permute(0, 3, 1, 2)
        normalised = functional.group_norm(channels_first, self.num_groups, weight, bias, self.eps)
        normalised = normalised.permute(0, 2, 3, 1).unflatten(1, x.shape[1:3])
        if modulation is not None and not folded:
            scale, shift = (values[:, None, None, None] for values in modulation)
            normalised = torch.addcmul(shift, normalised, scale + 1)
        return normalised


class _Gain(nn.Module):
    """Normalisation of each voxel over its channels, with a gain and no offset."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.gamma.flatten(), None, 1e-5)


class _Block(nn.Module):
    """Convolution, normalisation, optional modulation (FiLM), SiLU."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.proj = _SliceConv(channels_in, channels_out, 3)
        self.norm = _GroupNorm(groups, channels_out)

    def forward(
        self, x: torch.Tensor, modulation: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        return functional.silu(self.norm(self.proj(x), modulation), inplace=True)


class _ResnetBlock(nn.Module):
    """Two blocks, the first of which is modulated by the condition, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, groups: int, condition_dim: int = 0) -> None:
        super().__init__()
        self.mlp: nn.Sequential | None = None
        if condition_dim:
            self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(condition_dim, 2 * channels_out))
        self.block1 = _Block(channels_in, channels_out, groups)
        self.block2 = _Block(channels_out, channels_out, groups)
        self.res_conv: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.res_conv = _PointConv3d(channels_in, channels_out, 1)

    def forward(self, x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
        """``condition``: after the SiLU of ``mlp``, which is computed once for all blocks."""
        modulation = None if self.mlp is None else self.mlp[1](condition).chunk(2, -1)
        return self.block2(self.block1(x, modulation)).add_(self.res_conv(x))


def _in_parts(function: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """``function`` of (N, L, C), whose N cases are independent of each other; on a CPU, of a few at a
    time."""
    if x.device.type != "cpu":
        return function(x)
    some = attention_on_cpu.parts(len(x), x.shape[1], attention_on_cpu.DEPTH_TOKENS)
    return torch.cat([function(x[part]) for part in some])


class _LinearAttention(nn.Module):
    """Residual attention within each slice, linear in its voxels (Shen et al., Efficient attention, 2021).

    Each feature of a key attends to a mean of voxels. Values and the output's projection are linear and are
    therefore computed from these few means instead of from every voxel.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        to_qkv = _PointConv2d(channels, 3 * heads * HEAD_DIM, 1, bias=False)
        to_out = _PointConv2d(heads * HEAD_DIM, channels, 1)
        inner = nn.ModuleDict({"to_qkv": to_qkv, "to_out": to_out})
        self.fn = nn.ModuleDict({"norm": _Gain(channels), "fn": inner})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = x.flatten(2, 3).flatten(0, 1)
        inner: Any = self.fn["fn"]
        if attention_on_cpu.computes(x, inner["to_qkv"]):
            to_qkv, to_out = (inner[name].weight.flatten(1) for name in ("to_qkv", "to_out"))
            voxels = self.fn["norm"](slices)
            attended = attention_on_cpu.linear_attention(
                voxels, to_qkv, to_out, inner["to_out"].bias, self.heads
            )
            return attended.add_(slices).view(x.shape)
        return _in_parts(self._attended, slices).reshape(x.shape)

    def _attended(self, slices: torch.Tensor) -> torch.Tensor:
        """(N, H * W, C) -> the same."""
        inner: Any = self.fn["fn"]
        to_q, to_k, to_v = inner["to_qkv"].weight.flatten(1).chunk(3)
        voxels = self.fn["norm"](slices)
        q = functional.linear(voxels, to_q).unflatten(-1, (self.heads, HEAD_DIM)).softmax(-1).flatten(2)
        k = functional.linear(voxels, to_k).softmax(1)
        means = (k.transpose(1, 2) @ voxels).unflatten(1, (self.heads, HEAD_DIM))  # (N, heads, HEAD_DIM, C)
        values = means @ to_v.unflatten(0, (self.heads, HEAD_DIM)).transpose(1, 2)
        to_out = inner["to_out"].weight.flatten(1).T.unflatten(0, (self.heads, HEAD_DIM)) * HEAD_DIM**-0.5
        context = (values @ to_out).flatten(1, 2)  # (N, heads * HEAD_DIM, C)
        return torch.baddbmm(inner["to_out"].bias, q, context).add_(slices)


class _Rotary(SharedFrequencies):
    """Rotary embedding (Su et al. 2021): feature pair i of place p is rotated by p * freqs[i]. If a head has
    more than HEAD_DIM features, the others are not rotated."""

    def __init__(self, head_dim: int) -> None:
        rotated = min(HEAD_DIM, head_dim)
        super().__init__(rotated)
        self._unrotated = (head_dim - rotated) // 2

    def forward(self, depth: int, repeats: int) -> torch.Tensor:
        """Returns: the rotation of D places, the same for each of ``repeats`` heads."""
        angles = torch.outer(torch.arange(depth, device=self.freqs.device).float(), self.freqs.float())
        angles = functional.pad(angles, (0, self._unrotated)).repeat(1, repeats)
        return complex_turn(angles) if angles.device.type == "cpu" else real_turn(angles)


class _Attention(nn.Module):
    """Residual, pre-normalised attention; the subclasses define among which places."""

    def __init__(self, channels: int, heads: int, head_dim: int = HEAD_DIM, **more: nn.Module) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        to_qkv = nn.Linear(channels, 3 * heads * head_dim, bias=False)
        to_out = nn.Linear(heads * head_dim, channels, bias=False)
        inner = nn.ModuleDict({**more, "to_qkv": to_qkv, "to_out": to_out})
        self.fn = nn.ModuleDict({"norm": _Gain(channels), "fn": nn.ModuleDict({"fn": inner})})

    @property
    def inner(self) -> Any:
        """The container of the projections, by name."""
        return self.fn["fn"]["fn"]  # type: ignore[index]

    def qkv(self, tokens: torch.Tensor) -> torch.Tensor:
        """Queries, keys and values of (N, L, C): (N, L, 3 * heads * head_dim)."""
        return self.inner["to_qkv"](self.fn["norm"](tokens))

    def out(self, qkv: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """(N, L, C): attention among L places; ``bias`` (1, heads, L, L) is added to its logits."""
        split = qkv.unflatten(-1, (3, self.heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=bias)
        return self.inner["to_out"](attended.transpose(1, 2).flatten(2))


class _SliceAttention(_Attention):
    """Attention among all voxels of a slice."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        slices = x.flatten(2, 3).flatten(0, 1)
        return x + self.out(self.qkv(slices)).reshape(x.shape)


class _DepthAttention(_Attention):
    """Attention along the depth, separately for each place of the slice ("temporal" in the release)."""

    def rotation(self, depth: int) -> torch.Tensor:
        """Of ``Positions``."""
        return self.inner["rotary_emb"](depth, 2 * self.heads)

    def forward(self, x: torch.Tensor, positions: Positions) -> torch.Tensor:
        if attention_on_cpu.computes(x, self.inner["to_qkv"]) and positions.rotation.is_complex():
            return attention_on_cpu.depth_attention(
                x.flatten(2, 3),
                self.fn["norm"],
                self.inner["to_qkv"].weight,
                self.inner["to_out"].weight,
                positions.rotation[:, : self.head_dim // 2],
                positions.bias[0].to(x.dtype),
            ).view(x.shape)
        batch, _, height, width, _ = x.shape
        columns = x.permute(0, 2, 3, 1, 4).reshape(-1, x.shape[1], x.shape[-1])

        def attended(part: torch.Tensor) -> torch.Tensor:
            qkv = self.qkv(part)
            rotate(qkv[..., : 2 * self.heads * self.head_dim], positions.rotation)
            return self.out(qkv, positions.bias.to(qkv.dtype))

        along = _in_parts(attended, columns).unflatten(0, (batch, height, width))
        return x + along.permute(0, 3, 1, 2, 4)


#: Layers whose intermediate results are up to 24 times as large as their input.
ATTENTIONS = (_LinearAttention, _SliceAttention, _DepthAttention)


def complex_turn(angles: torch.Tensor) -> torch.Tensor:
    """(D, F / 2) angles of pairs -> complex64 of the same shape; takes a third of the time of `real_turn` on
    a CPU."""
    return torch.polar(torch.ones_like(angles), angles)


def real_turn(angles: torch.Tensor) -> torch.Tensor:
    """(D, F / 2) angles of pairs -> (2, D, F), factors of a feature and of its neighbour: (a, b) becomes (a
    cos - b sin, b cos + a sin). For compilers, which do not support complex numbers."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cosine, cosine], -1), torch.stack([-sine, sine], -1)]).flatten(-2)


def rotate(features: torch.Tensor, turn: torch.Tensor) -> None:
    """Rotates pairs of neighbouring features of (N, D, F), in place."""
    if turn.is_complex():
        pairs = torch.view_as_complex(features.float().unflatten(-1, (-1, 2)))
        pairs *= turn
        if features.dtype != torch.float32:
            features.copy_(torch.view_as_real(pairs).flatten(-2))
        return
    own, neighbours = turn.to(features.dtype)
    exchanged = features.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    features.mul_(own).addcmul_(exchanged, neighbours)


class _DepthBias(nn.Module):
    """Bias of attention by head and by bucket of the signed distance, query minus key."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.relative_attention_bias = nn.Embedding(2 * (len(BUCKET_STARTS) + 1), heads)
        self.starts: torch.Tensor
        self.register_buffer("starts", torch.tensor(BUCKET_STARTS), persistent=False)

    def forward(self, depth: int) -> torch.Tensor:
        """Returns: (1, heads, D, D)."""
        weight = self.relative_attention_bias.weight
        places = torch.arange(depth, device=weight.device)
        distance = places[:, None] - places
        bucket = torch.bucketize(distance.abs(), self.starts, right=True)
        bucket = bucket + (len(BUCKET_STARTS) + 1) * (distance < 0)
        return self.relative_attention_bias(bucket).permute(2, 0, 1)[None]


class Sinusoid(nn.Module):
    """(B,) timesteps -> (B, width): sines, then cosines, of wavelengths from 2 pi to 20 000 pi."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        exponents = torch.arange(half, device=timestep.device) / (half - 1)
        angles = timestep.float()[:, None] * torch.exp(-math.log(10_000) * exponents)
        return torch.cat([angles.sin(), angles.cos()], -1)


class _Level(nn.ModuleList):
    """Two blocks, attention in slices, optional cross-attention, attention along the depth, change of
    size."""

    def forward(
        self,
        x: torch.Tensor,
        condition: torch.Tensor,
        positions: Positions,
        spatial: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns: the features at the size of this level, and at that of the next one."""
        x = self[2](self[1](self[0](x, condition), condition))
        if len(self) > 5:
            x = self[5](x, spatial)
        x = self[3](x, positions)
        return x, self[4](x)


class PaperDenoiser(ModelMixin, ConfigMixin):
    """The papers' denoiser: epsilon from noisy latents, time, and a radiograph as one embedding (X-ray2CTPA)
    or as features on the latents' grid (XctDiff).

    Its defaults are X-ray2CTPA's released network: 12,007,252 parameters in 301 tensors. XctDiff's is
    latent_channels=8, embedding_dim=0, width=64, spatial_channels=8: 35,755,416 parameters.

    Args:
        latent_channels: C of the latents.
        embedding_dim: length of the radiograph embedding; 0 for none.
        width: channels of the first level, an even multiple of groups.
        multipliers: channels of the levels over ``width``. Each level but the last halves H and W; D stays.
        heads: of every attention.
        groups: of the group normalisations.
        spatial_channels: of the features on the latents' grid; 0 for none.
        cross_attention: whether the features enter by attention at every level (XctDiff's paper), or
            concatenated to the noisy latents (its release).
        kernel: size of the first convolution, odd.
        head_dim: features of a head along the depth.
        linear_attention: whether levels have attention in slices.
        released_axes: whether the network computes on (x, y, z), with planes perpendicular to x, although
            its input is (D, H, W) (models.axes).
        token_values: numbers in all tokens of an image tower together, which a layer projects to the
            embedding (medclip=False in the release: 257 tokens of 1024); 0 for an encoder of embeddings.

    Raises:
        ValueError: a width that groups do not divide, or an odd one; an even kernel.
    """

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        embedding_dim: int = 512,
        width: int = 32,
        multipliers: tuple[int, ...] = (1, 2, 4, 8),
        heads: int = 8,
        groups: int = 8,
        spatial_channels: int = 0,
        cross_attention: bool = False,
        kernel: int = 7,
        head_dim: int = HEAD_DIM,
        linear_attention: bool = True,
        released_axes: bool = False,
        token_values: int = 0,
    ) -> None:
        super().__init__()
        if width % groups or width % 2 or width < 4:
            raise ValueError(
                f"width must be even, at least 4 and a multiple of groups, got {width}, {groups}."
            )
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}.")
        self._released_axes = released_axes
        rotary = _Rotary(head_dim)
        condition_dim = 4 * width + embedding_dim
        attended = spatial_channels if cross_attention else 0

        def along_depth(channels: int) -> _DepthAttention:
            return _DepthAttention(channels, heads, head_dim, rotary_emb=rotary)

        def level(channels_in: int, channels_out: int, resize: nn.Module) -> _Level:
            in_slices = _LinearAttention(channels_out, heads) if linear_attention else nn.Identity()
            layers: list[nn.Module] = [
                _ResnetBlock(channels_in, channels_out, groups, condition_dim),
                _ResnetBlock(channels_out, channels_out, groups, condition_dim),
                in_slices,
                along_depth(channels_out),
                resize,
            ]
            if attended:
                layers.append(PlaneCrossAttention(channels_out, attended, heads, HEAD_DIM))
            return _Level(layers)

        self.time_rel_pos_bias = _DepthBias(heads)
        self.init_conv = _SliceConv(latent_channels + spatial_channels - attended, width, kernel)
        self.init_temporal_attn = along_depth(width)
        self.time_mlp = nn.Sequential(
            Sinusoid(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width)
        )
        self.null_cond_emb: nn.Parameter
        null = nn.Parameter(torch.randn(1, embedding_dim)) if embedding_dim else None
        self.register_parameter("null_cond_emb", null)
        self.fc_cond = nn.Linear(token_values, embedding_dim) if token_values else None
        pairs = list(itertools.pairwise([width, *(width * m for m in multipliers)]))
        self.downs = nn.ModuleList(
            level(a, b, _SliceConv(b, b, 4, stride=2) if place < len(pairs) - 1 else nn.Identity())
            for place, (a, b) in enumerate(pairs)
        )
        middle = pairs[-1][1]
        self.mid_block1 = _ResnetBlock(middle, middle, groups, condition_dim)
        self.mid_spatial_attn = _SliceAttention(middle, heads)
        self.mid_temporal_attn = along_depth(middle)
        self.mid_block2 = _ResnetBlock(middle, middle, groups, condition_dim)
        self.ups = nn.ModuleList(
            level(2 * b, a, _SliceUpsample(a) if place < len(pairs) - 1 else nn.Identity())
            for place, (a, b) in enumerate(reversed(pairs))
        )
        self.final_conv = nn.Sequential(
            _ResnetBlock(2 * width, width, groups), _PointConv3d(width, latent_channels, 1)
        )

    def null_conditioning(self, batch: int) -> Conditioning:
        """The learned null embedding, which stands for no radiograph, for ``batch`` samples."""
        return Conditioning(self.null_cond_emb.expand(batch, -1))

    def forward(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> torch.Tensor:
        """Args:
            sample: (B, C, D, H, W), noisy; H and W are multiples of 2 ** (levels - 1).
            timestep: (B,) in [0, num_train_timesteps).
            conditioning: with an embedding (B, embedding_dim), or the tokens (B, N, E) from which it is
                projected, or with spatial features (B, spatial_channels, D, H, W), as the constructor asked
                for; or that tensor alone.

        Returns:
            As ``sample``: the predicted noise.

        Raises:
            ValueError: H or W cannot be halved at every level, or the conditioning lacks a part.
        """
        spatial = self._spatial(conditioning)
        sample = exchange(sample, self._released_axes)
        step = 2 ** (len(self.downs) - 1)
        if any(size % step for size in sample.shape[3:]):
            raise ValueError(f"H and W must be multiples of {step}, got {tuple(sample.shape)}.")
        condition = functional.silu(self._condition(timestep, conditioning, sample.dtype))
        depth = sample.shape[2]
        positions = Positions(self.init_temporal_attn.rotation(depth), self.time_rel_pos_bias(depth))
        if spatial is not None and not self.config["cross_attention"]:
            sample = torch.cat([sample, spatial.to(sample.dtype)], 1)
        entered = self.init_conv(sample.permute(0, 2, 3, 4, 1))
        x = self.init_temporal_attn(entered, positions)
        skips = []
        for level in self.downs:
            skip, x = level(x, condition, positions, spatial)
            skips.append(skip)
        x = self.mid_spatial_attn(self.mid_block1(x, condition))
        x = self.mid_block2(self.mid_temporal_attn(x, positions), condition)
        for level in self.ups:
            _, x = level(torch.cat([x, skips.pop()], -1), condition, positions, spatial)
        x = self.final_conv(torch.cat([x, entered], -1))
        return exchange(x.permute(0, 4, 1, 2, 3), self._released_axes).contiguous()

    def _spatial(self, conditioning: Conditioning | torch.Tensor) -> torch.Tensor | None:
        """The features on the grid in the network's order of axes; None if it uses none."""
        if not self.config["spatial_channels"]:
            return None
        spatial = conditioning.spatial if isinstance(conditioning, Conditioning) else conditioning
        if spatial is None or spatial.ndim != 5:
            raise ValueError("Expected a conditioning with spatial features, got one without.")
        return exchange(spatial, self._released_axes)

    def _condition(
        self, timestep: torch.Tensor, conditioning: Conditioning | torch.Tensor, dtype: torch.dtype
    ) -> torch.Tensor:
        """(B, 4 width + embedding_dim), the condition that modulates the blocks."""
        if not self.config["embedding_dim"]:
            return self.time_mlp[1:](self.time_mlp[0](timestep).to(dtype))
        embedding = embedding_of(conditioning).flatten(1)
        if self.fc_cond is not None and embedding.shape[1] == self.config["token_values"]:
            embedding = self.fc_cond(embedding)
        time = self.time_mlp[1:](self.time_mlp[0](timestep).to(embedding.dtype))
        return torch.cat([time, embedding], -1)
