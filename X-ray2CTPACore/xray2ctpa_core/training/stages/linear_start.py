"""Initial weights that make AutoencoderKL the best linear autoencoder of its folded slices.

From random weights a small autoencoder needs thousands of steps to become as good as principal components of
small patches. In diffusers' architecture encoder and decoder end in GroupNorm, SiLU and a convolution. They
are nevertheless linear if each signal h is carried by a pair of channels (h, -h), because silu(h) - silu(-h)
= h, and if each group of channels holds a pair of large constants (K, -K), because the group's mean is then 0
and its standard deviation hardly depends on h. All other channels keep their random weights; all are trained.
"""

import torch
from diffusers import AutoencoderKL
from torch import nn

#: The constants K over the signals' standard deviation (1).
_ANCHOR = 5.0
#: Initial log-variance of the latents: standard deviation 0.04 beside a signal of 1.
_LOG_VARIANCE = -6.5


def principal_components(folded: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Principal components of folded slices.

    Args:
        folded: (N, C, h, w), from models.codecs.slices.to_autoencoder.
        count: number of components, at most C.

    Returns:
        (count, C) orthonormal rows, (C,) mean, (count,) standard deviations.
    """
    values = folded.transpose(0, 1).flatten(1).double()
    mean = values.mean(1)
    variances, vectors = torch.linalg.eigh(torch.cov(values))
    order = variances.argsort(descending=True)[:count]
    return vectors[:, order].T.float(), mean.float(), variances[order].clamp(min=1e-8).sqrt().float()


@torch.no_grad()
def start_linearly(autoencoder: AutoencoderKL, folded: torch.Tensor) -> None:
    """Sets the weights so that latents are the leading principal components of ``folded``, scaled to 1.

    Args:
        autoencoder: untrained, with a single level (no change of size).
        folded: (N, in_channels, h, w) examples.

    Raises:
        ValueError: for several levels, or fewer groups than latent channels.
    """
    config = autoencoder.config
    latents, groups = config["latent_channels"], config["norm_num_groups"]
    if len(config["block_out_channels"]) != 1 or groups < latents:
        raise ValueError(f"Needs one level and at least {latents} groups, got {config!r}.")
    rows, mean, deviations = principal_components(folded, latents)
    encode = rows / deviations[:, None]
    for part in (autoencoder.encoder, autoencoder.decoder):
        _silence_residuals(part)
    _pairs(autoencoder.encoder.conv_in, autoencoder.encoder.conv_norm_out, encode, -(encode @ mean))
    _read_pairs(autoencoder.encoder.conv_out, autoencoder.encoder.conv_norm_out, torch.eye(latents))
    autoencoder.encoder.conv_out.bias[latents:] = _LOG_VARIANCE
    identity = torch.eye(latents)
    autoencoder.quant_conv.weight.copy_(torch.eye(2 * latents)[:, :, None, None])
    autoencoder.quant_conv.bias.zero_()
    autoencoder.post_quant_conv.weight.copy_(identity[:, :, None, None])
    autoencoder.post_quant_conv.bias.zero_()
    _pairs(autoencoder.decoder.conv_in, autoencoder.decoder.conv_norm_out, identity, torch.zeros(latents))
    decode = (rows * deviations[:, None]).T
    _read_pairs(autoencoder.decoder.conv_out, autoencoder.decoder.conv_norm_out, decode)
    autoencoder.decoder.conv_out.bias.copy_(mean)


def _silence_residuals(part: nn.Module) -> None:
    """Makes the residual blocks identities."""
    for name, module in part.named_modules():
        if name.endswith("conv2") and isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


def _places(norm: nn.GroupNorm, signal: int) -> list[int]:
    """Channels of one signal's group: h, -h, K, -K."""
    first = signal * (norm.num_channels // norm.num_groups)
    return [first, first + 1, first + 2, first + 3]


def _pairs(conv: nn.Conv2d, norm: nn.GroupNorm, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """The first convolution writes each signal, its negative and two constants into the signal's group."""
    middle = conv.kernel_size[0] // 2
    size = norm.num_channels // norm.num_groups
    deviation = ((2 * _ANCHOR**2 + 2) / size) ** 0.5
    for signal, (row, offset) in enumerate(zip(weight, bias, strict=True)):
        plus, minus, up, down = _places(norm, signal)
        group = slice(plus, plus + size)
        conv.weight[group] = 0
        conv.bias[group] = 0  # type: ignore[index]
        conv.weight[plus, :, middle, middle] = row
        conv.weight[minus, :, middle, middle] = -row
        for channel, value in ((plus, offset), (minus, -offset), (up, _ANCHOR), (down, -_ANCHOR)):
            conv.bias[channel] = value  # type: ignore[index]
        norm.weight[group] = deviation
        norm.bias[group] = 0


def _read_pairs(conv: nn.Conv2d, norm: nn.GroupNorm, weight: torch.Tensor) -> None:
    """Sets the last convolution to combine the signals, each from its pair, by ``weight`` (outputs,
    signals)."""
    middle = conv.kernel_size[0] // 2
    conv.weight.zero_()
    conv.bias.zero_()  # type: ignore[union-attr]
    for signal, column in enumerate(weight.T):
        plus, minus, _, _ = _places(norm, signal)
        conv.weight[: len(column), plus, middle, middle] = column
        conv.weight[: len(column), minus, middle, middle] = -column
