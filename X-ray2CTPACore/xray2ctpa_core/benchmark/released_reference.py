"""The released denoiser, operation by operation: what ours is checked and timed against.

Written from the published description and from measured facts of the release (its tensors' names and shapes,
its order of operations), without its code; it shares nothing with `models.denoisers.x_ray2ctpa`. Eager and
unfused as the
release is: 3D convolutions, attention whose matrices are written out, gains and rotations in single steps.
Only tensors by their released names go in; (B, C, D, H, W) throughout.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

#: Features of an attention head, and groups of the group normalisations.
HEAD_DIM, GROUPS = 32, 8

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

#: (name, channels in, channels out) of blocks, (name, channels) of attentions and changes of size.
Layers = list[tuple[str, int, int]]
Places = list[tuple[str, int]]
PAPER_MULTIPLIERS = (1, 2, 4, 8)


def blocks(width: int = 32, multipliers: Sequence[int] = PAPER_MULTIPLIERS) -> Layers:
    """The blocks that the condition modulates."""
    pairs = _pairs(width, multipliers)
    middle = pairs[-1][1]
    found = []
    for level, (a, b) in enumerate(pairs):
        found += [(f"downs.{level}.0", a, b), (f"downs.{level}.1", b, b)]
    found += [("mid_block1", middle, middle), ("mid_block2", middle, middle)]
    for level, (a, b) in enumerate(reversed(pairs)):
        found += [(f"ups.{level}.0", 2 * b, a), (f"ups.{level}.1", a, a)]
    return found


def depth_attentions(width: int = 32, multipliers: Sequence[int] = PAPER_MULTIPLIERS) -> Places:
    """The attentions along the depth."""
    pairs = _pairs(width, multipliers)
    downs = [(f"downs.{level}.3", b) for level, (_, b) in enumerate(pairs)]
    ups = [(f"ups.{level}.3", a) for level, (a, _) in enumerate(reversed(pairs))]
    return [("init_temporal_attn", width), *downs, ("mid_temporal_attn", pairs[-1][1]), *ups]


def _pairs(width: int, multipliers: Sequence[int]) -> list[tuple[int, int]]:
    return list(itertools.pairwise([width, *(width * m for m in multipliers)]))


def released_shapes(
    width: int = 32,
    multipliers: Sequence[int] = PAPER_MULTIPLIERS,
    latent_channels: int = 4,
    heads: int = 8,
    embedding: int = 512,
) -> Shapes:
    """Name -> shape of all tensors; 301 of the paper's configuration.

    The arguments are the published constructor's dim, dim_mults, channels, attn_heads and cond_dim.
    """
    time, inner, middle = 4 * width, heads * HEAD_DIM, width * multipliers[-1]
    shapes: Shapes = {
        "null_cond_emb": (1, embedding),
        "time_rel_pos_bias.relative_attention_bias.weight": (32, heads),
        "init_conv.weight": (width, latent_channels, 1, 7, 7),
        "init_conv.bias": (width,),
        "time_mlp.1.weight": (time, width),
        "time_mlp.1.bias": (time,),
        "time_mlp.3.weight": (time, time),
        "time_mlp.3.bias": (time,),
        "mid_spatial_attn.fn.norm.gamma": (1, middle, 1, 1, 1),
        "mid_spatial_attn.fn.fn.fn.to_qkv.weight": (3 * inner, middle),
        "mid_spatial_attn.fn.fn.fn.to_out.weight": (middle, inner),
        "final_conv.1.weight": (latent_channels, width, 1, 1, 1),
        "final_conv.1.bias": (latent_channels,),
    }
    modulated = blocks(width, multipliers)
    for name, channels_in, channels_out in [*modulated, ("final_conv.0", 2 * width, width)]:
        for block, width in (("block1", channels_in), ("block2", channels_out)):
            shapes[f"{name}.{block}.proj.weight"] = (channels_out, width, 1, 3, 3)
            for part in ("proj.bias", "norm.weight", "norm.bias"):
                shapes[f"{name}.{block}.{part}"] = (channels_out,)
        if channels_in != channels_out:
            shapes[f"{name}.res_conv.weight"] = (channels_out, channels_in, 1, 1, 1)
            shapes[f"{name}.res_conv.bias"] = (channels_out,)
    for name, _, channels_out in modulated:
        shapes[f"{name}.mlp.1.weight"] = (2 * channels_out, time + embedding)
        shapes[f"{name}.mlp.1.bias"] = (2 * channels_out,)
    for name, channels in depth_attentions(width, multipliers):
        shapes[f"{name}.fn.norm.gamma"] = (1, channels, 1, 1, 1)
        shapes[f"{name}.fn.fn.fn.rotary_emb.freqs"] = (16,)
        shapes[f"{name}.fn.fn.fn.to_qkv.weight"] = (3 * inner, channels)
        shapes[f"{name}.fn.fn.fn.to_out.weight"] = (channels, inner)
    pairs = _pairs(width, multipliers)
    levels = [("downs", level, b) for level, (_, b) in enumerate(pairs)]
    levels += [("ups", level, a) for level, (a, _) in enumerate(reversed(pairs))]
    for side, level, channels in levels:
        name = f"{side}.{level}.2"
        shapes[f"{name}.fn.norm.gamma"] = (1, channels, 1, 1, 1)
        shapes[f"{name}.fn.fn.to_qkv.weight"] = (3 * inner, channels, 1, 1)
        shapes[f"{name}.fn.fn.to_out.weight"] = (channels, inner, 1, 1)
        shapes[f"{name}.fn.fn.to_out.bias"] = (channels,)
        if level < len(pairs) - 1:  # the last level keeps its size
            shapes[f"{side}.{level}.4.weight"] = (channels, channels, 1, 4, 4)
            shapes[f"{side}.{level}.4.bias"] = (channels,)
    return shapes


def random_weights(seed: int, **configuration: Any) -> Weights:
    """The tensors of a configuration (see `released_shapes`) at random, each far from zero and from its
    initial value; activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in released_shapes(**configuration).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith(("gamma", "norm.weight")):
            weights[name] = 1 + 0.3 * noise
        elif name.endswith("bias") or name == "null_cond_emb":
            weights[name] = 0.3 * noise
        elif name.startswith("time_rel_pos_bias"):
            weights[name] = noise
        elif name.endswith("freqs"):
            weights[name] = torch.tensor([10_000 ** (-2 * i / 32) for i in range(16)])
        else:
            weights[name] = noise * math.prod(shape[1:]) ** -0.5
    return weights


def released_unet(w: Weights, x: Tensor, timestep: Tensor, embedding: Tensor) -> Tensor:
    """One pass of the released network.

    Args:
        w: its tensors, on the device of ``x``.
        x: (B, C, D, H, W) noisy latents, H and W multiples of 2 to the number of levels less one.
        timestep: (B,) in [0, 1000).
        embedding: (B, cond_dim) of the radiograph.

    Returns:
        As ``x``: the noise in it.
    """
    half = len(w["init_conv.bias"]) // 2
    frequencies = [math.exp(-i * math.log(10_000) / (half - 1)) for i in range(half)]
    levels = len({name.split(".")[1] for name in w if name.startswith("downs.")})
    angles = timestep.float()[:, None] * torch.tensor(frequencies, device=x.device)
    time = torch.cat([angles.sin(), angles.cos()], 1)
    time = F.gelu(F.linear(time, w["time_mlp.1.weight"], w["time_mlp.1.bias"]))
    time = F.linear(time, w["time_mlp.3.weight"], w["time_mlp.3.bias"])
    condition = torch.cat([time, embedding], 1)
    bias = depth_bias(w, x.shape[2])

    margin = w["init_conv.weight"].shape[-1] // 2
    x = F.conv3d(x, w["init_conv.weight"], w["init_conv.bias"], padding=(0, margin, margin))
    entered = x
    x = depth_attention(w, "init_temporal_attn", x, bias)
    skips = []
    for level in range(levels):
        x = _level(w, f"downs.{level}", x, condition, bias)
        skips.append(x)
        if level < levels - 1:
            weight, offset = w[f"downs.{level}.4.weight"], w[f"downs.{level}.4.bias"]
            x = F.conv3d(x, weight, offset, stride=(1, 2, 2), padding=(0, 1, 1))
    x = resnet_block(w, "mid_block1", x, condition)
    x = slice_attention(w, "mid_spatial_attn", x)
    x = depth_attention(w, "mid_temporal_attn", x, bias)
    x = resnet_block(w, "mid_block2", x, condition)
    for level in range(levels):
        x = _level(w, f"ups.{level}", torch.cat([x, skips.pop()], 1), condition, bias)
        if level < levels - 1:
            weight, offset = w[f"ups.{level}.4.weight"], w[f"ups.{level}.4.bias"]
            x = F.conv_transpose3d(x, weight, offset, stride=(1, 2, 2), padding=(0, 1, 1))
    x = resnet_block(w, "final_conv.0", torch.cat([x, entered], 1), None)
    return F.conv3d(x, w["final_conv.1.weight"], w["final_conv.1.bias"])


def _level(w: Weights, name: str, x: Tensor, condition: Tensor, bias: Tensor) -> Tensor:
    x = resnet_block(w, f"{name}.0", x, condition)
    x = resnet_block(w, f"{name}.1", x, condition)
    if f"{name}.2.fn.norm.gamma" in w:
        x = linear_attention(w, f"{name}.2", x)
    return depth_attention(w, f"{name}.3", x, bias)


def resnet_block(w: Weights, name: str, x: Tensor, condition: Tensor | None) -> Tensor:
    """Two convolutions with normalisation and SiLU, the first of them scaled and shifted; a shortcut."""
    h = x
    for block in ("block1", "block2"):
        h = F.conv3d(h, w[f"{name}.{block}.proj.weight"], w[f"{name}.{block}.proj.bias"], padding=(0, 1, 1))
        h = F.group_norm(h, GROUPS, w[f"{name}.{block}.norm.weight"], w[f"{name}.{block}.norm.bias"])
        if block == "block1" and condition is not None:
            radiograph = F.linear(F.silu(condition), w[f"{name}.mlp.1.weight"], w[f"{name}.mlp.1.bias"])
            scale, shift = radiograph[:, :, None, None, None].chunk(2, 1)
            h = h * (scale + 1) + shift
        h = F.silu(h)
    if f"{name}.res_conv.weight" in w:
        x = F.conv3d(x, w[f"{name}.res_conv.weight"], w[f"{name}.res_conv.bias"])
    return h + x


def normalised(w: Weights, name: str, x: Tensor) -> Tensor:
    """Each voxel over its channels, times a gain."""
    variance = torch.var(x, dim=1, unbiased=False, keepdim=True)
    mean = torch.mean(x, dim=1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.fn.norm.gamma"]


def linear_attention(w: Weights, name: str, x: Tensor) -> Tensor:
    """Within each slice; softmax of the queries over features, of the keys over positions."""
    batch, _, depth, height, width = x.shape
    slices = normalised(w, name, x).transpose(1, 2).flatten(0, 1)
    qkv = F.conv2d(slices, w[f"{name}.fn.fn.to_qkv.weight"]).chunk(3, dim=1)
    q, k, v = (t.reshape(len(slices), -1, HEAD_DIM, height * width) for t in qkv)
    q = q.softmax(dim=-2) * HEAD_DIM**-0.5
    context = torch.einsum("bhdn,bhen->bhde", k.softmax(dim=-1), v)
    out = torch.einsum("bhde,bhdn->bhen", context, q).reshape(len(slices), -1, height, width)
    out = F.conv2d(out, w[f"{name}.fn.fn.to_out.weight"], w[f"{name}.fn.fn.to_out.bias"])
    return x + out.unflatten(0, (batch, depth)).transpose(1, 2)


def attend(
    tokens: Tensor,
    to_qkv: Tensor,
    to_out: Tensor,
    freqs: Tensor | None,
    bias: Tensor | None,
    head_dim: int = HEAD_DIM,
) -> Tensor:
    """(..., L, C) -> (..., L, C): attention among L tokens whose logits are written out."""
    q, k, v = (
        t.unflatten(-1, (-1, head_dim)).transpose(-2, -3) for t in F.linear(tokens, to_qkv).chunk(3, -1)
    )
    q = q * head_dim**-0.5
    if freqs is not None:
        q, k = rotated(q, freqs), rotated(k, freqs)
    logits = torch.einsum("...hid,...hjd->...hij", q, k)
    if bias is not None:
        logits = logits + bias
    logits = logits - logits.amax(dim=-1, keepdim=True).detach()
    out = torch.einsum("...hij,...hjd->...hid", logits.softmax(-1), v)
    return F.linear(out.transpose(-2, -3).flatten(-2), to_out)


def rotated(features: Tensor, freqs: Tensor) -> Tensor:
    """Features 2i and 2i + 1 of token p turned by the angle p * freqs[i]."""
    places = torch.arange(features.shape[-2], device=features.device)
    angles = torch.einsum("p,f->pf", places.to(freqs), freqs).repeat_interleave(2, dim=-1)
    even, odd = features.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return features * angles.cos() + turned * angles.sin()


def bucket(query: int, key: int) -> int:
    """T5's bucket of a relative position: 32 buckets, largest distance 32, both directions."""
    distance = abs(query - key)
    if distance >= 8:
        distance = min(15, 8 + int(math.log(distance / 8) / math.log(32 / 8) * 8))
    return distance + (16 if key > query else 0)


def depth_bias(w: Weights, depth: int) -> Tensor:
    """(heads, D, D), added to the logits of every attention along the depth."""
    table = w["time_rel_pos_bias.relative_attention_bias.weight"]
    buckets = [[bucket(i, j) for j in range(depth)] for i in range(depth)]
    return table[torch.tensor(buckets, device=table.device)].permute(2, 0, 1)


def depth_attention(w: Weights, name: str, x: Tensor, bias: Tensor) -> Tensor:
    """Along the depth, each place of the slice for itself."""
    height, width = x.shape[3:]
    tokens = normalised(w, name, x).permute(0, 3, 4, 2, 1).flatten(1, 2)  # (B, HW, D, C)
    inner = f"{name}.fn.fn.fn"
    to_qkv, to_out = w[f"{inner}.to_qkv.weight"], w[f"{inner}.to_out.weight"]
    head_dim = to_out.shape[1] // len(bias)
    out = attend(tokens, to_qkv, to_out, w[f"{inner}.rotary_emb.freqs"], bias, head_dim)
    return x + out.unflatten(1, (height, width)).permute(0, 4, 3, 1, 2)


def slice_attention(w: Weights, name: str, x: Tensor) -> Tensor:
    """Among all voxels of a slice."""
    tokens = normalised(w, name, x).permute(0, 2, 3, 4, 1)
    inner = f"{name}.fn.fn.fn"
    to_qkv, to_out = w[f"{inner}.to_qkv.weight"], w[f"{inner}.to_out.weight"]
    out = attend(tokens.flatten(2, 3), to_qkv, to_out, None, None)
    return x + out.reshape(tokens.shape).permute(0, 4, 1, 2, 3)
