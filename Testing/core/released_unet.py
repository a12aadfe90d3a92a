"""The released denoiser, written a second time from its description: slow, plain, nothing shared with ours.

Only tensors by their released names go in; (B, C, D, H, W) throughout, loops where they are clearer.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]

#: (prefix, channels in, channels out) of the blocks that the condition modulates.
BLOCKS = [
    ("downs.0.0", 32, 32), ("downs.0.1", 32, 32), ("downs.1.0", 32, 64), ("downs.1.1", 64, 64),
    ("downs.2.0", 64, 128), ("downs.2.1", 128, 128), ("downs.3.0", 128, 256), ("downs.3.1", 256, 256),
    ("mid_block1", 256, 256), ("mid_block2", 256, 256),
    ("ups.0.0", 512, 128), ("ups.0.1", 128, 128), ("ups.1.0", 256, 64), ("ups.1.1", 64, 64),
    ("ups.2.0", 128, 32), ("ups.2.1", 32, 32), ("ups.3.0", 64, 32), ("ups.3.1", 32, 32),
]  # fmt: skip
DEPTH_ATTENTIONS = [
    ("init_temporal_attn", 32), ("downs.0.3", 32), ("downs.1.3", 64), ("downs.2.3", 128), ("downs.3.3", 256),
    ("mid_temporal_attn", 256), ("ups.0.3", 128), ("ups.1.3", 64), ("ups.2.3", 32), ("ups.3.3", 32),
]  # fmt: skip
LINEAR_ATTENTIONS = [
    ("downs.0.2", 32), ("downs.1.2", 64), ("downs.2.2", 128), ("downs.3.2", 256),
    ("ups.0.2", 128), ("ups.1.2", 64), ("ups.2.2", 32), ("ups.3.2", 32),
]  # fmt: skip
RESIZES = [
    ("downs.0.4", 32), ("downs.1.4", 64), ("downs.2.4", 128),
    ("ups.0.4", 128), ("ups.1.4", 64), ("ups.2.4", 32),
]  # fmt: skip


def released_shapes() -> Shapes:
    """Name -> shape of all 301 tensors."""
    shapes: Shapes = {
        "null_cond_emb": (1, 512),
        "time_rel_pos_bias.relative_attention_bias.weight": (32, 8),
        "init_conv.weight": (32, 4, 1, 7, 7),
        "init_conv.bias": (32,),
        "time_mlp.1.weight": (128, 32),
        "time_mlp.1.bias": (128,),
        "time_mlp.3.weight": (128, 128),
        "time_mlp.3.bias": (128,),
        "mid_spatial_attn.fn.norm.gamma": (1, 256, 1, 1, 1),
        "mid_spatial_attn.fn.fn.fn.to_qkv.weight": (768, 256),
        "mid_spatial_attn.fn.fn.fn.to_out.weight": (256, 256),
        "final_conv.1.weight": (4, 32, 1, 1, 1),
        "final_conv.1.bias": (4,),
    }
    for name, channels_in, channels_out in [*BLOCKS, ("final_conv.0", 64, 32)]:
        for block, width in (("block1", channels_in), ("block2", channels_out)):
            shapes[f"{name}.{block}.proj.weight"] = (channels_out, width, 1, 3, 3)
            for part in ("proj.bias", "norm.weight", "norm.bias"):
                shapes[f"{name}.{block}.{part}"] = (channels_out,)
        if channels_in != channels_out:
            shapes[f"{name}.res_conv.weight"] = (channels_out, channels_in, 1, 1, 1)
            shapes[f"{name}.res_conv.bias"] = (channels_out,)
    for name, _, channels_out in BLOCKS:
        shapes[f"{name}.mlp.1.weight"] = (2 * channels_out, 640)
        shapes[f"{name}.mlp.1.bias"] = (2 * channels_out,)
    for name, channels in DEPTH_ATTENTIONS:
        shapes[f"{name}.fn.norm.gamma"] = (1, channels, 1, 1, 1)
        shapes[f"{name}.fn.fn.fn.rotary_emb.freqs"] = (16,)
        shapes[f"{name}.fn.fn.fn.to_qkv.weight"] = (768, channels)
        shapes[f"{name}.fn.fn.fn.to_out.weight"] = (channels, 256)
    for name, channels in LINEAR_ATTENTIONS:
        shapes[f"{name}.fn.norm.gamma"] = (1, channels, 1, 1, 1)
        shapes[f"{name}.fn.fn.to_qkv.weight"] = (768, channels, 1, 1)
        shapes[f"{name}.fn.fn.to_out.weight"] = (channels, 256, 1, 1)
        shapes[f"{name}.fn.fn.to_out.bias"] = (channels,)
    for name, channels in RESIZES:
        shapes[f"{name}.weight"] = (channels, channels, 1, 4, 4)
        shapes[f"{name}.bias"] = (channels,)
    return shapes


def lora_layers() -> list[str]:
    """The 40 linear layers that the release injects its updates into."""
    attentions = [name for name, _ in DEPTH_ATTENTIONS] + ["mid_spatial_attn"]
    return [f"{name}.mlp.1" for name, _, _ in BLOCKS] + [
        f"{name}.fn.fn.fn.{part}" for name in attentions for part in ("to_qkv", "to_out")
    ]


def random_weights(seed: int) -> Weights:
    """Every tensor far from zero and from its initial value, activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in released_shapes().items():
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
    """The noise that the network sees in ``x`` (B, 4, D, H, W)."""
    angles = timestep.float()[:, None] * torch.tensor(
        [math.exp(-i * math.log(10_000) / 15) for i in range(16)]
    )
    time = torch.cat([angles.sin(), angles.cos()], 1)
    time = F.gelu(time @ w["time_mlp.1.weight"].T + w["time_mlp.1.bias"])
    time = time @ w["time_mlp.3.weight"].T + w["time_mlp.3.bias"]
    condition = torch.cat([time, embedding], 1)

    x = F.conv3d(x, w["init_conv.weight"], w["init_conv.bias"], padding=(0, 3, 3))
    entered = x
    x = depth_attention(w, "init_temporal_attn", x)
    skips = []
    for level in range(4):
        x = resnet_block(w, f"downs.{level}.0", x, condition)
        x = resnet_block(w, f"downs.{level}.1", x, condition)
        x = linear_attention(w, f"downs.{level}.2", x)
        x = depth_attention(w, f"downs.{level}.3", x)
        skips.append(x)
        if level < 3:
            weight, bias = w[f"downs.{level}.4.weight"], w[f"downs.{level}.4.bias"]
            x = F.conv3d(x, weight, bias, stride=(1, 2, 2), padding=(0, 1, 1))
    x = resnet_block(w, "mid_block1", x, condition)
    x = slice_attention(w, "mid_spatial_attn", x)
    x = depth_attention(w, "mid_temporal_attn", x)
    x = resnet_block(w, "mid_block2", x, condition)
    for level in range(4):
        x = torch.cat([x, skips.pop()], 1)
        x = resnet_block(w, f"ups.{level}.0", x, condition)
        x = resnet_block(w, f"ups.{level}.1", x, condition)
        x = linear_attention(w, f"ups.{level}.2", x)
        x = depth_attention(w, f"ups.{level}.3", x)
        if level < 3:
            weight, bias = w[f"ups.{level}.4.weight"], w[f"ups.{level}.4.bias"]
            x = F.conv_transpose3d(x, weight, bias, stride=(1, 2, 2), padding=(0, 1, 1))
    x = resnet_block(w, "final_conv.0", torch.cat([x, entered], 1), None)
    return F.conv3d(x, w["final_conv.1.weight"], w["final_conv.1.bias"])


def resnet_block(w: Weights, name: str, x: Tensor, condition: Tensor | None) -> Tensor:
    h = x
    for block in ("block1", "block2"):
        h = F.conv3d(h, w[f"{name}.{block}.proj.weight"], w[f"{name}.{block}.proj.bias"], padding=(0, 1, 1))
        groups = h.reshape(len(h), 8, -1)
        mean, variance = groups.mean(2, keepdim=True), groups.var(2, unbiased=False, keepdim=True)
        h = ((groups - mean) / (variance + 1e-5).sqrt()).reshape(h.shape)
        h = h * per_channel(w[f"{name}.{block}.norm.weight"]) + per_channel(w[f"{name}.{block}.norm.bias"])
        if block == "block1" and condition is not None:
            film = condition * torch.sigmoid(condition)
            film = film @ w[f"{name}.mlp.1.weight"].T + w[f"{name}.mlp.1.bias"]
            scale, shift = film[:, : film.shape[1] // 2], film[:, film.shape[1] // 2 :]
            h = h * (scale[:, :, None, None, None] + 1) + shift[:, :, None, None, None]
        h = h * torch.sigmoid(h)
    if f"{name}.res_conv.weight" in w:
        x = F.conv3d(x, w[f"{name}.res_conv.weight"], w[f"{name}.res_conv.bias"])
    return h + x


def per_channel(values: Tensor) -> Tensor:
    return values[None, :, None, None, None]


def normalised(w: Weights, name: str, x: Tensor) -> Tensor:
    mean = x.mean(1, keepdim=True)
    variance = ((x - mean) ** 2).mean(1, keepdim=True)
    return (x - mean) / (variance + 1e-5).sqrt() * w[f"{name}.fn.norm.gamma"]


def linear_attention(w: Weights, name: str, x: Tensor) -> Tensor:
    weight = w[f"{name}.fn.fn.to_qkv.weight"][:, :, 0, 0]
    out, bias = w[f"{name}.fn.fn.to_out.weight"][:, :, 0, 0], w[f"{name}.fn.fn.to_out.bias"]
    qkv = torch.einsum("oc,bcdyx->bodyx", weight, normalised(w, name, x))
    result = []
    for d in range(x.shape[2]):
        heads = []
        for head in range(8):
            rows = slice(32 * head, 32 * head + 32)
            q, k, v = (qkv[:, part : part + 256, d][:, rows].flatten(2) for part in (0, 256, 512))
            q = q.softmax(1) * 32**-0.5
            k = k.softmax(2)
            context = torch.einsum("bfn,ben->bfe", k, v)
            heads.append(torch.einsum("bfe,bfn->ben", context, q))
        slice_out = torch.einsum("oc,bcn->bon", out, torch.cat(heads, 1)) + bias[None, :, None]
        result.append(slice_out.reshape(x[:, :, d].shape))
    return x + torch.stack(result, 2)


def attend(qkv: Tensor, freqs: Tensor | None, bias: Tensor | None) -> Tensor:
    """(..., L, 768) -> (..., L, 256): eight heads of 32 features."""
    heads = []
    for head in range(8):
        q, k, v = (qkv[..., part + 32 * head : part + 32 * head + 32] for part in (0, 256, 512))
        q = q * 32**-0.5
        if freqs is not None:
            q, k = rotated(q, freqs), rotated(k, freqs)
        logits = torch.einsum("...if,...jf->...ij", q, k)
        if bias is not None:
            logits = logits + bias[:, :, head]
        heads.append(torch.einsum("...ij,...jf->...if", logits.softmax(-1), v))
    return torch.cat(heads, -1)


def rotated(features: Tensor, freqs: Tensor) -> Tensor:
    """Features 2i and 2i + 1 of token p turned by the angle p * freqs[i]."""
    turned = features.clone()
    for i in range(16):
        angle = torch.arange(features.shape[-2]) * freqs[i]
        a, b = features[..., 2 * i], features[..., 2 * i + 1]
        turned[..., 2 * i] = a * angle.cos() - b * angle.sin()
        turned[..., 2 * i + 1] = b * angle.cos() + a * angle.sin()
    return turned


def bucket(query: int, key: int) -> int:
    """T5's bucket of a relative position: 32 buckets, largest distance 32, both directions."""
    distance = abs(query - key)
    if distance >= 8:
        distance = min(15, 8 + int(math.log(distance / 8) / math.log(32 / 8) * 8))
    return distance + (16 if key > query else 0)


def depth_attention(w: Weights, name: str, x: Tensor) -> Tensor:
    depth = x.shape[2]
    table = w["time_rel_pos_bias.relative_attention_bias.weight"]
    bias = torch.stack([torch.stack([table[bucket(i, j)] for j in range(depth)]) for i in range(depth)])
    tokens = normalised(w, name, x).permute(0, 3, 4, 2, 1)
    qkv = tokens @ w[f"{name}.fn.fn.fn.to_qkv.weight"].T
    out = attend(qkv, w[f"{name}.fn.fn.fn.rotary_emb.freqs"], bias) @ w[f"{name}.fn.fn.fn.to_out.weight"].T
    return x + out.permute(0, 4, 3, 1, 2)


def slice_attention(w: Weights, name: str, x: Tensor) -> Tensor:
    tokens = normalised(w, name, x).permute(0, 2, 3, 4, 1)
    qkv = tokens.flatten(2, 3) @ w[f"{name}.fn.fn.fn.to_qkv.weight"].T
    out = attend(qkv, None, None) @ w[f"{name}.fn.fn.fn.to_out.weight"].T
    return x + out.reshape(tokens.shape).permute(0, 4, 1, 2, 3)
