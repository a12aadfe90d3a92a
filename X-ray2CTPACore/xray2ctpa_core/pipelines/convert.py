"""Checkpoints in the format of the published X-ray2CTPA code -> our networks.

The release's trainer saves {"step", "model", "ema", "scaler"}; "model" and "ema" are state dicts of the
whole trainer, in which a prefix marks the tensors of each network. A bare state dict of one network is read,
too.
"""

import itertools
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from xray2ctpa_core import __version__
from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.x_ray2ctpa import PaperDenoiser
from xray2ctpa_core.models.weights import load_exactly, refuse

#: Sets of weights that a trainer's file may hold, in the order of preference.
WEIGHTS = ("ema", "model")
#: Prefixes of the names of the trainer's networks.
DENOISER_PREFIX = "denoise_fn."
CLASSIFIER_PREFIX = "classifier."
ENCODER_PREFIX = "xray_encoder."
PREFIXES = (
    DENOISER_PREFIX, CLASSIFIER_PREFIX, ENCODER_PREFIX, "vae.", "netD.", "perceptual_model.",
    "text_encoder.",
)  # fmt: skip
#: Buffers of the trainer's noise schedule.
SCHEDULE_BUFFERS = {
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
    "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
}  # fmt: skip
#: The released latent classifier, DenseNet-121, as arguments of PEClassifier.
RELEASED_CLASSIFIER: dict[str, Any] = {
    "init_features": 64, "growth_rate": 32, "block_config": (6, 12, 24, 16), "norm": "batch",
    "first_stride": (1, 2, 2), "pool": True,
}  # fmt: skip
#: Groups of the denoiser's normalisations in the published configurations.
DENOISER_GROUPS = 8
#: What the release multiplies a LoRA update by.
LORA_SCALE = 1.0
_LORA_PART = re.compile(r"(.+)\.(?:linear\.weight|linear\.bias|lora_up\.weight|lora_down\.weight)")
#: Prefixes of torch's DataParallel and DistributedDataParallel, and of torch.compile.
_WRAPPERS = ("module.", "_orig_mod.")
_CHECKPOINT_HINT = "Convert a checkpoint as the published code saves it."
_SAFE_HINT = 'Save its tensors alone: torch.save({"model": model.state_dict()}, FILE).'


@dataclass(frozen=True)
class Conversion:
    """The origin of a converted network.

    Attributes:
        source, sha256: name of the checkpoint's file, and its digest.
        weights: which of WEIGHTS; "state_dict" for a bare state dict.
        keys: tensors of the checkpoint that the network has.
        merged_lora: layers whose low-rank update was added to their weight.
        software: version of this package.
    """

    source: str
    sha256: str
    weights: str
    keys: tuple[str, ...]
    merged_lora: tuple[str, ...]
    software: str = __version__


def convert_denoiser(
    checkpoint: Path, weights: str | None = None, groups: int = DENOISER_GROUPS
) -> tuple[PaperDenoiser, Conversion]:
    """The released denoiser in ``checkpoint``, with LoRA updates (Hu et al. 2022) merged.

    Args:
        checkpoint: a .pt file.
        weights: of WEIGHTS; None takes the first that the file has.
        groups: of GroupNorm, which no tensor's shape shows.

    Raises:
        InputError: no such file.
        BundleError: damaged, unsafe to read, or not exactly this network; names the difference.
    """
    which, tensors = _read_weights(checkpoint, weights)
    prefix, taken = _of_network(tensors, DENOISER_PREFIX, checkpoint.name)
    merged, layers = merge_lora(taken, checkpoint.name)
    released = {key.removeprefix(prefix): tensor for key, tensor in merged.items()}
    configuration = denoiser_configuration(released, checkpoint.name)
    if configuration["spatial_channels"]:
        raise BundleError(
            f"{checkpoint.name}: expected as many channels read by {prefix}init_conv as are written, got "
            f"{configuration['spatial_channels']} more.",
            "For one of XctDiff: xray2ctpa convert xctdiff-denoiser.",
        )
    try:
        network = PaperDenoiser(**configuration, groups=groups)
    except (ValueError, ArithmeticError) as error:
        raise BundleError(
            f"{checkpoint.name} does not hold a network of the published constructor: {error}",
            _CHECKPOINT_HINT,
        ) from error
    load_exactly(network, merged, checkpoint.name, _CHECKPOINT_HINT, lambda name: prefix + name)
    return network.eval(), _conversion(checkpoint, which, taken, layers)


def denoiser_configuration(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, Any]:
    """What the published constructor of X-ray2CTPA and XctDiff was given (dim, dim_mults, channels, out_dim,
    attn_heads, attn_dim_head, cond_dim, init_kernel_size, use_sparse_linear_attn, has_self_cond, medclip),
    read off the tensors' names and shapes, by the names of PaperDenoiser's. Its groups are not among them.
    Channels that are read and not written are those of a condition on the latents' grid.

    Args:
        tensors: of the denoiser, by their released names.
        source: for errors.

    Raises:
        BundleError: names the tensor that is missing or has an unexpected shape.
    """

    def shape(name: str, axes: int) -> tuple[int, ...]:
        found = tuple(tensors[name].shape) if name in tensors else ()
        if len(found) != axes:
            raise BundleError(
                f"{source} is no denoiser: expected the tensor {name} with {axes} axes, got "
                f"{f'the shape {found}' if name in tensors else 'none of this name'}.",
                _CHECKPOINT_HINT,
            )
        return found

    width, read, _, kernel, _ = shape("init_conv.weight", 5)
    written = shape("final_conv.1.weight", 5)[0]
    heads = shape("time_rel_pos_bias.relative_attention_bias.weight", 2)[1]
    first_of_level = map("downs.{}.0.block1.proj.weight".format, itertools.count())
    outs = [shape(name, 5)[0] for name in itertools.takewhile(tensors.__contains__, first_of_level)]
    if not outs or any(out % width for out in outs) or read < written:
        raise BundleError(
            f"{source}: expected levels of whole multiples of {width} channels and no more than {read} "
            f"written, got {outs} and {written}.",
            _CHECKPOINT_HINT,
        )
    return {
        "latent_channels": written,
        "embedding_dim": shape("null_cond_emb", 2)[1] if "null_cond_emb" in tensors else 0,
        "width": width,
        "multipliers": tuple(out // width for out in outs),
        "heads": heads,
        "spatial_channels": read - written,
        "kernel": kernel,
        "head_dim": shape("init_temporal_attn.fn.fn.fn.to_qkv.weight", 2)[0] // (3 * heads),
        "linear_attention": "downs.0.2.fn.fn.to_qkv.weight" in tensors,
        "token_values": shape("fc_cond.weight", 2)[1] if "fc_cond.weight" in tensors else 0,
    }


def convert_classifier(checkpoint: Path, weights: str | None = None) -> tuple[PEClassifier, Conversion]:
    """The released latent classifier (DenseNet-121) in ``checkpoint``, its own or a denoiser's that contains
    it.

    Arguments and errors are as in ``convert_denoiser``.
    """
    which, tensors = _read_weights(checkpoint, weights)
    prefix, taken = _of_network(tensors, CLASSIFIER_PREFIX, checkpoint.name)
    name_in_source = released_classifier_name(prefix)
    first = taken.get(name_in_source("network.features.conv0.weight"))
    channels = first.shape[1] if first is not None and first.ndim == 5 else 4
    network = PEClassifier(latent_channels=channels, **RELEASED_CLASSIFIER)
    load_exactly(network, taken, checkpoint.name, _CHECKPOINT_HINT, name_in_source)
    return network.eval(), _conversion(checkpoint, which, taken, ())


def merge_lora(
    tensors: Mapping[str, torch.Tensor], source: str
) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    """Replaces layers with a low-rank update by plain ones, W + scale * up @ down; other layers are
    unchanged.

    Args:
        tensors: X.linear.weight (out, in), X.linear.bias, X.lora_up.weight (out, r) and X.lora_down.weight
            (r, in) for each layer X with an update.
        source: for errors.

    Returns:
        X.weight and X.bias instead of these, and the names of the layers X.

    Raises:
        BundleError: names a part that is missing, occurs twice, or has another shape.
    """
    merged = dict(tensors)
    matches = filter(None, map(_LORA_PART.fullmatch, tensors))
    layers = tuple(sorted({match[1] for match in matches}))
    parts = ("linear.weight", "lora_up.weight", "lora_down.weight")
    needed = [f"{layer}.{part}" for layer in layers for part in parts]
    refuse(
        f"{source} holds incomplete LoRA layers",
        _CHECKPOINT_HINT,
        {
            "missing": [name for name in needed if name not in tensors],
            "unexpected beside them": [
                n for x in layers for n in (f"{x}.weight", f"{x}.bias") if n in tensors
            ],
        },
    )
    for layer in layers:
        weight, up, down = (merged.pop(f"{layer}.{part}").float() for part in parts)
        ranks_agree = up.ndim == down.ndim == 2 and up.shape[1] == down.shape[0]
        if not ranks_agree or weight.shape != (up.shape[0], down.shape[1]):
            shapes = f"{tuple(weight.shape)}, {tuple(up.shape)} and {tuple(down.shape)}"
            raise BundleError(
                f"{source}: the weight and LoRA parts up and down of {layer} need the shapes (out, in), "
                f"(out, r) and (r, in), got {shapes}.",
                _CHECKPOINT_HINT,
            )
        merged[f"{layer}.weight"] = weight + LORA_SCALE * up @ down
        if f"{layer}.linear.bias" in merged:
            merged[f"{layer}.bias"] = merged.pop(f"{layer}.linear.bias")
    return merged, layers


def encoder_tensors(
    checkpoint: Path, weights: str | None, wanted: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor] | None:
    """The trained radiograph encoder of a trainer's file, under the names of ``wanted``; None if the file
    has none of this architecture. The release trains the encoder, which is frozen according to its paper.

    Args:
        checkpoint, weights: as in `convert_denoiser`.
        wanted: the state dict of the encoder's network.
    """
    _, tensors = _read_weights(checkpoint, weights)
    first = next(iter(wanted))
    for name in tensors:
        if not (name.startswith(ENCODER_PREFIX) and name.endswith(first)):
            continue
        prefix = name.removesuffix(first)
        found = {key: tensors.get(prefix + key) for key in wanted}
        if all(isinstance(t, torch.Tensor) and t.shape == wanted[key].shape for key, t in found.items()):
            return {key: t for key, t in found.items() if t is not None}
    return None


def _read_weights(checkpoint: Path, wanted: str | None) -> tuple[str, Mapping[str, Any]]:
    """The set of weights ``wanted`` of a file, and its name; only tensors are ever unpickled."""
    content = read_checkpoint(checkpoint)
    if not isinstance(content, Mapping):
        raise BundleError(
            f"{checkpoint.name} must hold a dictionary of tensors, got {type(content).__name__}.",
            _CHECKPOINT_HINT,
        )
    held = [name for name in WEIGHTS if isinstance(content.get(name), Mapping)]
    if not held and wanted is None:
        return "state_dict", content
    which = wanted or held[0]
    if which not in held:
        raise BundleError(
            f"Expected the weights {which!r} in {checkpoint.name}, got {' '.join(held) or 'a state dict'}.",
            "Choose others by --weights, or leave it out.",
        )
    return which, content[which]


def read_checkpoint(checkpoint: Path) -> Any:
    """The content of a .pt or .ckpt file; only tensors and plain values are unpickled.

    Raises:
        InputError: no such file.
        BundleError: damaged, or it holds other objects.
    """
    if not checkpoint.is_file():
        raise InputError(f"Expected a checkpoint file, got {checkpoint}, which is none.", "Check the path.")
    zipped = zipfile.is_zipfile(checkpoint)
    with checkpoint.open("rb") as file:
        torn = file.read(4) == b"PK\x03\x04" and not zipped
    damaged = f"{checkpoint.name} is no PyTorch checkpoint, or is truncated or damaged"
    if torn:
        raise BundleError(f"{damaged}.", "Fetch the file again.")
    try:
        # Memory-mapped if the format allows it: the encoders beside the network are three times its size.
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        raise BundleError(
            f"{checkpoint.name} holds other objects than tensors, or is no checkpoint; what it holds could "
            "run code and was not loaded.",
            _SAFE_HINT,
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises many types for damaged bytes; all mean the same here
        raise BundleError(f"{damaged} ({type(error).__name__}).", "Fetch the file again.") from error


def unwrapped(content: Any) -> Any:
    """The state dict in ``content`` without the wrappers of training: Lightning's "state_dict", and the
    prefixes of parallel and compiled networks. Anything else is returned unchanged."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        return content
    tensors = dict(content)
    for prefix in _WRAPPERS:
        if tensors and all(isinstance(name, str) and name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def _of_network(tensors: Mapping[str, Any], prefix: str, source: str) -> tuple[str, dict[str, torch.Tensor]]:
    """The tensors under ``prefix``, and the prefix; for a bare state dict all tensors, and no prefix."""
    refuse(
        f"{source} holds what is no tensor",
        _SAFE_HINT,
        {
            "names": [
                str(k) for k, v in tensors.items() if not isinstance(v, torch.Tensor) or type(k) is not str
            ]
        },
    )
    if not any(name.startswith(prefix) for name in tensors):
        return "", dict(tensors)
    known = {name for name in tensors if name.startswith(PREFIXES) or name in SCHEDULE_BUFFERS}
    refuse(
        f"{source} holds tensors that the published trainer does not",
        _CHECKPOINT_HINT,
        {"unexpected": sorted(tensors.keys() - known)},
    )
    return prefix, {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def released_classifier_name(prefix: str) -> Callable[[str], str]:
    """Maps the names of our classifier's tensors to the release's."""

    def released(name: str) -> str:
        name = name.replace("network.class_layers.out.", "base_model.classifier.")
        return prefix + name.replace("network.", "base_model.").replace(".layers.", ".")

    return released


def _conversion(
    checkpoint: Path, which: str, taken: Mapping[str, torch.Tensor], layers: tuple[str, ...]
) -> Conversion:
    return Conversion(checkpoint.name, file_sha256(checkpoint), which, tuple(sorted(taken)), layers)
