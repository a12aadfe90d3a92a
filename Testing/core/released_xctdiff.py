"""The published XctDiff codec and radiograph encoder, operation by operation: what ours is checked against.

Written after the release was read and run for its facts (names and shapes of its tensors, order of
operations); no code of it is here. It shares nothing with our networks. Tensors are made when they are first
asked for, so that a pass both says which there are and what is computed with them.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


class Seeded(dict[str, Tensor]):
    """The tensors of a network at random, by name; activations stay of order one."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, *shape: int) -> Tensor:
        """The tensor ``name``, of ``shape``."""
        if name not in self:
            noise = torch.randn(shape, generator=self._generator)
            if len(shape) > 1:
                self[name] = noise * math.prod(shape[1:]) ** -0.5
            else:
                self[name] = 0.2 * noise + float("norm" in name and name.endswith("weight"))
        assert self[name].shape == shape, name
        return self[name]


def conv(w: Seeded, name: str, x: Tensor, out: int, size: int, stride: int = 1) -> Tensor:
    """2D or 3D; odd sizes keep the grid, a stride is as large as the kernel."""
    dimensions = x.ndim - 2
    weight = w(f"{name}.weight", out, x.shape[1], *(size,) * dimensions)
    bias = w(f"{name}.bias", out)
    function = F.conv2d if dimensions == 2 else F.conv3d
    return function(x, weight, bias, stride, size // 2 if stride == 1 else 0)


def norm_swish(w: Seeded, name: str, x: Tensor, groups: int) -> Tensor:
    """GroupNorm written out, then x sigmoid(x)."""
    parts = x.reshape(len(x), groups, -1)
    mean = parts.mean(2, keepdim=True)
    variance = (parts - mean).square().mean(2, keepdim=True)
    shape = (1, -1, *(1,) * (x.ndim - 2))
    channels = x.shape[1]
    y = ((parts - mean) / (variance + 1e-6).sqrt()).reshape(x.shape)
    y = y * w(f"{name}.weight", channels).reshape(shape) + w(f"{name}.bias", channels).reshape(shape)
    return y / (1 + torch.exp(-y))


def double(w: Seeded, name: str, x: Tensor, out: int, groups: int) -> Tensor:
    """Twice normalisation, swish and convolution."""
    h = conv(w, f"{name}.conv1", norm_swish(w, f"{name}.norm1", x, groups), out, 3)
    return conv(w, f"{name}.conv2", norm_swish(w, f"{name}.norm2", h, groups), out, 3)


def resnet(w: Seeded, name: str, x: Tensor, out: int, groups: int) -> Tensor:
    """The same around a shortcut."""
    h = double(w, name, x, out, groups)
    return h + (x if x.shape[1] == out else conv(w, f"{name}.nin_shortcut", x, out, 1))


def attention(w: Seeded, name: str, x: Tensor) -> Tensor:
    """One head among all places; the normalisation has 32 groups and no swish."""
    channels = x.shape[1]
    scale, offset = w(f"{name}.norm.weight", channels), w(f"{name}.norm.bias", channels)
    h = F.group_norm(x, 32, scale, offset, 1e-6)
    q, k, v = (conv(w, f"{name}.{part}", h, channels, 1).flatten(2) for part in "qkv")
    share = (torch.einsum("bci,bcj->bij", q, k) / math.sqrt(channels)).softmax(2)
    found = torch.einsum("bij,bcj->bci", share, v).reshape(x.shape)
    return x + conv(w, f"{name}.proj_out", found, channels, 1)


def vqgan_encode(
    w: Seeded,
    volume: Tensor,
    channels: tuple[int, ...],
    blocks: int,
    groups: int,
    attended: int | None = None,
    first: int = 0,
) -> Tensor:
    """Un-quantised latents of 8 channels; 4 between the encoder and the projection; ``first`` channels of the
    first convolution, as many as those of the first level for 0."""
    x = conv(w, "encoder.init_conv", volume, first or channels[0], 3)
    for level, width in enumerate(channels):
        for block in range(blocks):
            x = resnet(w, f"encoder.down.{level}.block.{block}", x, width, groups)
            if level == attended:
                x = attention(w, f"encoder.down.{level}.attn.{block}", x)
        if level < len(channels) - 1:
            x = conv(w, f"encoder.down.{level}.downsample.conv", x, width, 2, 2)
    x = conv(w, "encoder.conv_out", norm_swish(w, "encoder.norm", x, groups), 4, 3)
    return conv(w, "quant_conv", x, 8, 1)


def quantise(w: Seeded, z: Tensor, codes: int) -> Tensor:
    """The nearest codes by Euclid's distance."""
    table = w("quantize.embedding.weight", codes, z.shape[1])
    vectors = z.movedim(1, -1)
    distances = (vectors[..., None, :] - table).square().sum(-1)
    return table[distances.argmin(-1)].movedim(-1, 1)


def vqgan_decode(
    w: Seeded,
    z: Tensor,
    channels: tuple[int, ...],
    blocks: int,
    groups: int,
    codes: int,
    attended: int | None = None,
) -> Tensor:
    """Quantises and decodes."""
    x = conv(w, "post_quant_conv", quantise(w, z, codes), 4, 1)
    x = conv(w, "decoder.conv_in", x, channels[-1], 3)
    x = conv(w, "decoder.mid_block", norm_swish(w, "decoder.mid_norm", x, groups), channels[-1], 3)
    for level in reversed(range(len(channels))):
        for block in range(blocks + 1):
            x = resnet(w, f"decoder.up.{level}.block.{block}", x, channels[level], groups)
            if level == attended:
                x = attention(w, f"decoder.up.{level}.attn.{block}", x)
        if level > 0:
            x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            x = resnet(w, f"decoder.up.{level}.upsample.conv", x, channels[level], 8)
    return conv(w, "decoder.conv_out", norm_swish(w, "decoder.norm_out", x, groups), 1, 3)


def encoder_condition(
    w: Seeded, image: Tensor, width: int, multipliers: tuple[int, ...], depth: int, groups: int = 16
) -> Tensor:
    """The un-quantised features of a radiograph, 1 block a level."""
    x = conv(w, "encoder.init_conv", image, width, 3)
    for level, multiplier in enumerate(multipliers):
        x = resnet(w, f"encoder.down.{level}.block.0", x, width * multiplier, groups)
        if level < len(multipliers) - 1:
            x = conv(w, f"encoder.down.{level}.downsample.conv", x, width * multiplier, 2, 2)
    x = attention(w, "encoder.mid.attn", resnet(w, "encoder.mid.block", x, x.shape[1], groups))
    batch, channels, height, wide = x.shape
    # Place (c, a) of the channels goes to place a of the new axis, which stands between the two of the image.
    x = x.reshape(batch, channels // depth, depth, height, wide).permute(0, 1, 3, 4, 2)
    for number in ("", "2"):
        scale, offset = (w(f"encoder.mid.norm{number}.{part}", depth) for part in ("weight", "bias"))
        x = F.layer_norm(x, (depth,), scale, offset, 1e-6)
        for layer in ("fc1", "fc2"):
            mlp = f"encoder.mid.mlp{number}.{layer}"
            x = F.linear(x, w(f"{mlp}.weight", depth, depth), w(f"{mlp}.bias", depth))
            if (number, layer) != ("2", "fc2"):
                x = F.gelu(x)
    x = double(w, "encoder.conv_out", x.permute(0, 1, 2, 4, 3), 12, 4)
    return conv(w, "quant_conv", x, 8, 1)


def encoder_regression(w: Seeded, z: Tensor, width: int, codes: int, groups: int = 16) -> Tensor:
    """The volume from the condition, through the encoder's own codes; the second of the decoder's blocks has
    half the groups of the first."""
    x = conv(w, "post_quant_conv", quantise(w, z, codes), 12, 1)
    x = conv(w, "decoder.conv.0", x, width, 3)
    x = double(w, "decoder.conv.1", x, width // 2, groups)
    x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    x = double(w, "decoder.conv.3", x, width // 4, groups // 2)
    x = F.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
    return conv(w, "decoder.conv.5", x, 1, 3)
