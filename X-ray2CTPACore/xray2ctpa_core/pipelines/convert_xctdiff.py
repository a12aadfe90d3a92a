"""Checkpoints in the format of the published XctDiff code -> our networks.

The release saves Lightning's files, {"state_dict": ...} and settings of the training. Its three stages have
one file each; the file of the diffusion stage also holds the other two networks, whose tensors' names have a
prefix. All settings are derived from the tensors' shapes, except the groups of the normalisations, which no
shape shows.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from xray2ctpa_core.errors import BundleError, ConfigError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.encoders.progressive import ProgressiveEncoder
from xray2ctpa_core.models.weights import load_exactly, refuse
from xray2ctpa_core.pipelines.convert import (
    DENOISER_GROUPS,
    Conversion,
    denoiser_configuration,
    read_checkpoint,
    unwrapped,
)

#: Prefixes of the networks' tensors in the diffusion stage's file.
VQGAN_PREFIX, ENCODER_PREFIX = "first_stage_model.", "cond_stage_model."
DENOISER_PREFIX = "model.diffusion_model."
#: Prefix of averaged weights, whose names have no dots.
EMA_PREFIX = "model_ema."
#: Of the first two stages' files beside the network: the loss, and tensors of options that do not change it.
_BESIDES = ("loss.", "colorize", "quantize.used")
#: A noise schedule has more steps than a sampler takes.
_LEAST_STEPS = 100
#: Groups of the normalisations in the published configurations.
VQGAN_GROUPS, ENCODER_GROUPS = 8, 32
_HINT = "Convert a checkpoint as the published XctDiff code saves it."

Tensors = Mapping[str, torch.Tensor]


def convert_vqgan(
    checkpoint: Path, weights: str | None = None, groups: int = VQGAN_GROUPS, released_axes: bool = False
) -> tuple[VQGAN, Conversion]:
    """The 3D VQGAN in the file of the autoencoder's or of the diffusion stage.

    Args:
        checkpoint: a .ckpt file.
        weights: "ema" or "model"; None takes averaged ones where the file has them.
        groups: of GroupNorm, which no tensor's shape shows.
        released_axes: whether the network is given volumes and radiographs in our order of axes, and turns
            them to the release's; by itself it computes on tensors as the release does (models.axes).

    Raises:
        InputError: no such file.
        BundleError: damaged, unsafe to read, or not exactly such a network; names the difference.
    """
    stage = _stage(checkpoint, VQGAN_PREFIX, "decoder.mid_block.weight", weights, _BESIDES)
    return _converted(
        checkpoint, stage, lambda t: VQGAN(**_vqgan_settings(t, groups), released_axes=released_axes)
    )


def convert_encoder(
    checkpoint: Path, weights: str | None = None, groups: int = ENCODER_GROUPS, released_axes: bool = False
) -> tuple[ProgressiveEncoder, Conversion]:
    """The progressive encoder in the file of its own or of the diffusion stage; as `convert_vqgan`."""
    stage = _stage(checkpoint, ENCODER_PREFIX, "encoder.mid.mlp.fc1.weight", weights, _BESIDES)
    return _converted(
        checkpoint,
        stage,
        lambda t: ProgressiveEncoder(**_encoder_settings(t, groups), released_axes=released_axes),
    )


def convert_denoiser(
    checkpoint: Path, weights: str | None = None, groups: int = DENOISER_GROUPS, released_axes: bool = False
) -> tuple[PaperDenoiser, Conversion]:
    """The denoiser in the file of the diffusion stage; as `convert_vqgan`."""
    stage = _stage(checkpoint, DENOISER_PREFIX, "init_conv.weight", weights)
    return _converted(
        checkpoint,
        stage,
        lambda t: PaperDenoiser(
            **denoiser_configuration(t, checkpoint.name), groups=groups, released_axes=released_axes
        ),
    )


def stated_scale(checkpoint: Path) -> float | None:
    """What the diffusion stage multiplied latents by, where its file states it (scale_by_std); else None."""
    found = _state_dict(checkpoint).get("scale_factor")
    return None if found is None else float(found)


def stated_betas(checkpoint: Path) -> list[float] | None:
    """The noise schedule of the diffusion stage, where its file states one; else None."""
    found = _state_dict(checkpoint).get("betas")
    if found is None or found.ndim != 1 or len(found) < _LEAST_STEPS or not ((found > 0) & (found < 1)).all():
        return None
    return [float(beta) for beta in found]


def _converted(
    checkpoint: Path, stage: tuple[str, dict[str, torch.Tensor], str], made: Callable[[Tensors], Any]
) -> tuple[Any, Conversion]:
    """The network that ``made`` builds from the shapes of the tensors in ``stage``, with these tensors."""
    which, tensors, prefix = stage
    try:
        network = made(tensors)
    except (LookupError, ValueError, ArithmeticError, ConfigError) as error:
        raise BundleError(
            f"{checkpoint.name} does not hold a network of the published constructors: {error}.", _HINT
        ) from error
    load_exactly(network, tensors, checkpoint.name, _HINT)
    keys = tuple(sorted(prefix + name for name in tensors))
    return network.eval(), Conversion(checkpoint.name, file_sha256(checkpoint), which, keys, ())


def _stage(
    checkpoint: Path, prefix: str, telling: str, weights: str | None, besides: tuple[str, ...] = ()
) -> tuple[str, dict[str, torch.Tensor], str]:
    """The tensors of one network of a file, by their names in the network.

    Args:
        checkpoint: the file.
        prefix: of the network in the diffusion stage's file.
        telling: name of a tensor that only this network has.
        weights: "ema", "model" or None.
        besides: prefixes of other tensors that its own file may hold.

    Returns:
        "ema" or "model", the tensors, and the prefix of their names in the file.
    """
    found = _state_dict(checkpoint)
    prefix = next((p for p in (prefix, "") if p + telling in found), "")
    if prefix + telling not in found:
        raise BundleError(f"Expected {telling} in {checkpoint.name}, got other tensors.", _HINT)
    plain = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
    plain = {name: tensor for name, tensor in plain.items() if not name.startswith((EMA_PREFIX, *besides))}
    averaged = _averaged(found, plain, prefix)
    if weights == "ema" and not averaged:
        raise BundleError(
            f"Expected averaged weights in {checkpoint.name}, got none.",
            "Leave --weights out, or choose model.",
        )
    if averaged and weights != "model":
        return "ema", plain | averaged, prefix
    return "model", plain, prefix


def _averaged(found: Tensors, plain: Tensors, prefix: str) -> dict[str, torch.Tensor]:
    """The averaged weights in ``found`` of the tensors ``plain``, by the names of these.

    The diffusion stage averages the denoiser only, the other stages their whole network.
    """
    inside = prefix.removeprefix("model.") if prefix == DENOISER_PREFIX else ""
    place = "" if prefix == DENOISER_PREFIX else prefix
    names = {name: place + EMA_PREFIX + (inside + name).replace(".", "") for name in plain}
    return {name: found[averaged] for name, averaged in names.items() if averaged in found}


def _state_dict(checkpoint: Path) -> dict[str, torch.Tensor]:
    content = unwrapped(read_checkpoint(checkpoint))
    if not isinstance(content, Mapping):
        raise BundleError(
            f"{checkpoint.name} must hold a dictionary of tensors, got {type(content).__name__}.", _HINT
        )
    others = [str(name) for name, value in content.items() if not isinstance(value, torch.Tensor)]
    refuse(f"{checkpoint.name} holds what is no tensor", _HINT, {"names": others})
    return dict(content)


def _vqgan_settings(tensors: Tensors, groups: int) -> dict[str, Any]:
    """VQGAN's arguments for the published autoencoder."""
    first = tensors["encoder.init_conv.weight"]
    levels = _count(tensors, r"encoder\.down\.(\d+)\.block")
    channels = tuple(
        tensors[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)
    )
    if any(f"encoder.down.{level}.downsample.conv.weight" not in tensors for level in range(levels - 1)):
        raise ValueError("its resampling has no convolutions, and the published code cannot run it")
    codes, dim = tensors["quantize.embedding.weight"].shape
    return {
        "channels": channels,
        "depth_strides": (2,) * (levels - 1),
        "blocks": _count(tensors, r"encoder\.down\.0\.block\.(\d+)"),
        "latent_channels": dim,
        "codes": codes,
        "groups": groups,
        "inner_channels": tensors["quant_conv.weight"].shape[1],
        "homogeneous": False,
        "encoder_attention": _attention(tensors, r"encoder\.down\.(\d+)\.attn\."),
        "decoder_attention": _attention(tensors, r"decoder\.up\.(\d+)\.attn\."),
        "volume_channels": (first.shape[1], tensors["decoder.conv_out.weight"].shape[0]),
        "first_channels": 0 if first.shape[0] == channels[0] else first.shape[0],
    }


def _encoder_settings(tensors: Tensors, groups: int) -> dict[str, Any]:
    """ProgressiveEncoder's arguments for the published radiograph encoder."""
    levels = _count(tensors, r"encoder\.down\.(\d+)\.block")
    width = tensors["encoder.init_conv.weight"].shape[0]
    channels = [tensors[f"encoder.down.{level}.block.0.conv2.weight"].shape[0] for level in range(levels)]
    if any(wide % width for wide in channels):
        raise ValueError(f"its widths {channels} are no multiples of the first convolution's {width}")
    codes, dim = tensors["quantize.embedding.weight"].shape
    return {
        "width": width,
        "multipliers": tuple(wide // width for wide in channels),
        "blocks": _count(tensors, r"encoder\.down\.0\.block\.(\d+)"),
        "depth": tensors["encoder.mid.norm.weight"].shape[0],
        "lifted_channels": tensors["encoder.conv_out.norm1.weight"].shape[0],
        "inner_channels": tensors["quant_conv.weight"].shape[1],
        "latent_channels": dim,
        "codes": codes,
        "groups": groups,
        "attention": _attention(tensors, r"encoder\.down\.(\d+)\.attn\."),
        "middle_attention": "encoder.mid.attn.q.weight" in tensors,
        "homogeneous": False,
        "quantised": False,
    }


def _count(tensors: Tensors, pattern: str) -> int:
    """One more than the largest number after ``pattern`` in the names."""
    found = [int(match[1]) for match in map(re.compile(pattern).match, tensors) if match]
    if not found:
        raise ValueError(f"no tensor's name begins as {pattern}")
    return max(found) + 1


def _attention(tensors: Tensors, pattern: str) -> tuple[int, ...]:
    """The levels with attention, in order."""
    return tuple(sorted({int(match[1]) for match in map(re.compile(pattern).match, tensors) if match}))
