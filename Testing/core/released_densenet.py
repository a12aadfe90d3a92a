"""The released latent classifier, written a second time: a plain function of its tensors by their names."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

#: Layers of the four dense blocks of DenseNet-121.
BLOCKS = (6, 12, 24, 16)


def released_shapes() -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of the checkpoint."""
    shapes: dict[str, tuple[int, ...]] = {"base_model.features.conv0.weight": (64, 4, 7, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"base_model.features.{name}.{part}"] = (channels,)
        shapes[f"base_model.features.{name}.num_batches_tracked"] = ()

    norm("norm0", 64)
    channels = 64
    for block, layers in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            name = f"denseblock{block}.denselayer{layer}"
            norm(f"{name}.norm1", channels)
            shapes[f"base_model.features.{name}.conv1.weight"] = (128, channels, 1, 1, 1)
            norm(f"{name}.norm2", 128)
            shapes[f"base_model.features.{name}.conv2.weight"] = (32, 128, 3, 3, 3)
            channels += 32
        if block < 4:
            norm(f"transition{block}.norm", channels)
            shapes[f"base_model.features.transition{block}.conv.weight"] = (channels // 2, channels, 1, 1, 1)
            channels //= 2
    norm("norm5", channels)
    shapes["base_model.classifier.weight"] = (1, channels)
    shapes["base_model.classifier.bias"] = (1,)
    return shapes


def random_weights(seed: int) -> dict[str, Tensor]:
    """Every tensor far from its initial value, activations of order one."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in released_shapes().items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(17)
        elif name.endswith(("running_var", "weight")) and len(shape) == 1:
            weights[name] = 1 + 0.5 * noise.clamp(-1.5, 1.5)
        elif len(shape) == 1:
            weights[name] = 0.3 * noise
        else:
            weights[name] = noise * (2 / math.prod(shape[1:])) ** 0.5
    return weights


def released_classifier(weights: dict[str, Tensor], latents: Tensor) -> Tensor:
    """(B, 4, D, H, W) -> (B, 1) logits, dropout off."""
    w = {name.removeprefix("base_model.features."): tensor for name, tensor in weights.items()}

    def normed(name: str, x: Tensor) -> Tensor:
        mean, variance, gain, offset = (
            w[f"{name}.{part}"][None, :, None, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return ((x - mean) / (variance + 1e-5).sqrt() * gain + offset).clamp(min=0)

    x = F.conv3d(latents, w["conv0.weight"], stride=(1, 2, 2), padding=3)
    x = F.max_pool3d(normed("norm0", x), 3, 2, 1)
    for block, layers in enumerate(BLOCKS, 1):
        for layer in range(1, layers + 1):
            name = f"denseblock{block}.denselayer{layer}"
            h = F.conv3d(normed(f"{name}.norm1", x), w[f"{name}.conv1.weight"])
            h = F.conv3d(normed(f"{name}.norm2", h), w[f"{name}.conv2.weight"], padding=1)
            x = torch.cat([x, h], 1)
        if block < 4:
            x = F.conv3d(normed(f"transition{block}.norm", x), w[f"transition{block}.conv.weight"])
            x = F.avg_pool3d(x, 2, 2)
    features = normed("norm5", x).mean((2, 3, 4))
    return features @ w["base_model.classifier.weight"].T + w["base_model.classifier.bias"]
