"""Converts a checkpoint of CMKD's trainer to its prior, of any configuration that the published constructor
allows, which is derived from the tensors' names and shapes."""

import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.diffusion.embedding_sampling import prior_scheduler
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.models.weights import load_exactly, refuse
from xray2ctpa_core.pipelines.convert import Conversion, unwrapped

#: Sets of weights of a trainer's file by the names that --weights takes, in the order of preference.
WEIGHTS = {"ema": "ema_model", "model": "model"}
NETWORK_PREFIX, SCHEDULE_PREFIX = "net.", "noise_scheduler."
#: Packages of the objects that the trainer saves beside the tensors. They are skipped: their placeholders do
#: nothing and cannot be called.
SKIPPED = re.compile(r"(packaging|pytorch_warmup|torch\.optim|accelerate)\.")
_HINT = "Convert a checkpoint as the published trainer saves it (its save_trainer)."
#: Largest difference of a schedule in the file from the cosine one that counts as equal.
_SCHEDULE_TOLERANCE = 1e-6
#: Names that a message lists.
_NAMED = 4


@dataclass(frozen=True)
class ConvertedPrior:
    """A prior with its scheduler and scaling.

    Attributes:
        network: in evaluation mode.
        scheduler: its noise schedule; the cosine one of 64 levels if the file holds none.
        scaling: of the embeddings, for each dimension. The release scales them to [-1, 1] by their minimum
            and maximum and multiplies by the square root of their length. The extremes are not in the file:
            embeddings are assumed to be in [-1, 1].
        conversion: its origin.
    """

    network: EmbeddingPrior
    scheduler: DDPMScheduler
    scaling: LatentScaling
    conversion: Conversion


def convert_prior(checkpoint: Path, weights: str | None = None) -> ConvertedPrior:
    """The prior in ``checkpoint``.

    Args:
        checkpoint: a file of the trainer; or a state dict, also Lightning's, with any prefix or none, with
            other networks beside the prior, or with the two copies of ema_pytorch, of which the average is
            taken.
        weights: of WEIGHTS; None takes the first that the file has.

    Raises:
        InputError: no such file.
        BundleError: damaged, unsafe to read, or not exactly such a network; names the difference.
    """
    which, tensors = _chosen(_read(checkpoint), weights, checkpoint.name)
    prefix = _prefix(tensors, checkpoint.name)
    whole = prefix.removesuffix(
        NETWORK_PREFIX
    )  # of network and schedule; what lies outside is not the prior's
    levels = whole + SCHEDULE_PREFIX
    schedule = {n.removeprefix(levels): t for n, t in tensors.items() if n.startswith(levels)}
    taken = {n: t for n, t in tensors.items() if n.startswith(whole) and not n.startswith(levels)}
    own = {name.removeprefix(prefix): tensor for name, tensor in taken.items()}
    network = EmbeddingPrior(**read_architecture(own, checkpoint.name))
    load_exactly(network, taken, checkpoint.name, _HINT, lambda name: prefix + name)
    dim = network.config["dim"]
    return ConvertedPrior(
        network.eval(),
        _scheduler(schedule, checkpoint.name),
        LatentScaling((0.0,) * dim, (dim**-0.5,) * dim),
        Conversion(checkpoint.name, file_sha256(checkpoint), which, tuple(sorted(taken)), ()),
    )


def read_architecture(tensors: Mapping[str, torch.Tensor], source: str) -> dict[str, Any]:
    """Arguments of EmbeddingPrior whose tensors have these names and shapes.

    Raises:
        BundleError: there are none; names what is missing.
    """
    layer = "causal_transformer.layers.0"
    table, computed = "to_time_embeds.0.weight", "to_time_embeds.0.1.net.2.weight"
    time = table if computed not in tensors else computed
    needed = {
        "learned_query": 1, "null_text_encodings": 3, "null_text_embeds": 3, "null_image_embed": 2,
        time: 2, "causal_transformer.rel_pos_bias.relative_attention_bias.weight": 2,
        f"{layer}.0.null_kv": 2, f"{layer}.1.5.weight": 2,
    }  # fmt: skip
    absent = [name for name, axes in needed.items() if name not in tensors or tensors[name].ndim != axes]
    refuse(f"{source} holds no prior of CMKD", _HINT, {"missing": absent})
    dim = len(tensors["learned_query"])
    layers = {int(m[1]) for m in map(re.compile(r"causal_transformer\.layers\.(\d+)\.").match, tensors) if m}
    several = {
        f"num_{kind}_embeds": len(tensors[f"to_{kind}_embeds.0.weight"]) // dim
        for kind in ("image", "text")
        if f"to_{kind}_embeds.0.weight" in tensors
    }
    times, width = tensors[time].shape if time == table else (None, len(tensors[time]))
    return {
        "dim": dim,
        "depth": len(layers),
        "heads": tensors["causal_transformer.rel_pos_bias.relative_attention_bias.weight"].shape[1],
        "dim_head": tensors[f"{layer}.0.null_kv"].shape[1],
        "num_timesteps": times,
        "max_text_len": tensors["null_text_encodings"].shape[1],
        "ff_mult": tensors[f"{layer}.1.5.weight"].shape[1] / dim,
        "num_time_embeds": width // dim,
        "normformer": f"{layer}.1.3.g" in tensors,
        "rotary_emb": f"{layer}.0.rotary_emb.freqs" in tensors,
        "norm_in": "causal_transformer.init_norm.g" in tensors,
        "norm_out": "causal_transformer.norm.g" in tensors,
        "final_proj": "causal_transformer.project_out.weight" in tensors,
        **several,
    }


def _prefix(tensors: Mapping[str, torch.Tensor], source: str) -> str:
    """What the names of the network's tensors begin with, by that of one that no other network has."""
    known = "learned_query"
    found = sorted(n.removesuffix(known) for n in tensors if n == known or n.endswith(f".{known}"))
    if len(found) > 1:  # the average and what it is of
        found = [prefix for prefix in found if WEIGHTS["ema"] in prefix.split(".")] or found
    if len(found) > 1:
        raise BundleError(
            f"Expected one prior in {source}, got {len(found)}, of the prefixes {', '.join(found)}.",
            'Save one alone: torch.save({"model": model.state_dict()}, FILE).',
        )
    return found[0] if found else ""


def _scheduler(buffers: Mapping[str, torch.Tensor], source: str) -> DDPMScheduler:
    """The cosine schedule if the file has its betas, else a schedule with the file's betas."""
    betas = buffers.get("betas")
    if betas is None:
        return prior_scheduler()
    betas = betas.float().flatten()
    # The last level may be noise alone (1, in the schedule "jsd" of the published constructor).
    if not len(betas) or not bool(((betas > 0) & (betas <= 1)).all() and (betas[:-1] < 1).all()):
        raise BundleError(f"{source} holds no noise schedule: its betas must lie between 0 and 1.", _HINT)
    scheduler = prior_scheduler(len(betas))
    if (scheduler.betas - betas).abs().max() > _SCHEDULE_TOLERANCE:
        scheduler = prior_scheduler(len(betas), betas.tolist())
    return scheduler


def _chosen(content: Any, wanted: str | None, source: str) -> tuple[str, dict[str, torch.Tensor]]:
    """The set of weights ``wanted``, and its name."""
    if not isinstance(content, Mapping):
        raise BundleError(f"{source} must hold a dictionary, got {type(content).__name__}.", _HINT)
    held = [name for name, key in WEIGHTS.items() if isinstance(content.get(key), Mapping) and content[key]]
    which = wanted or (held[0] if held else "state_dict")
    if wanted and wanted not in held:
        raise BundleError(
            f"Expected the weights {wanted!r} in {source}, got {' '.join(held) or 'a state dict'}.",
            "Choose others by --weights, or leave it out.",
        )
    tensors = unwrapped(content[WEIGHTS[which]] if held else content)
    foreign = [str(k) for k, v in tensors.items() if type(k) is not str or not isinstance(v, torch.Tensor)]
    refuse(f"{source} holds what is no tensor", _HINT, {"names": foreign})
    return which, dict(tensors)


def _read(checkpoint: Path) -> Any:
    """The file's content; objects of SKIPPED packages are replaced, others are refused, and no code is
    run."""
    if not checkpoint.is_file():
        raise InputError(f"Expected a checkpoint file, got {checkpoint}, which is none.", "Check the path.")
    try:
        with _placeholders(checkpoint):
            # Memory-mapped: the optimiser's state beside the network is several times its size.
            mapped = zipfile.is_zipfile(checkpoint)
            return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        names = [name for name in _objects(checkpoint) if not SKIPPED.match(name)]
        raise BundleError(
            f"{checkpoint.name} holds other objects than the published trainer saves"
            f"{' (' + ', '.join(names[:_NAMED]) + ')' if names else ', or is no checkpoint'}; what it holds "
            "could run code and was not loaded.",
            'Save its tensors alone: torch.save({"model": model.state_dict()}, FILE).',
        ) from error
    except (OSError, MemoryError):
        raise
    except Exception as error:  # torch raises many types for damaged bytes; all mean the same here
        raise BundleError(
            f"{checkpoint.name} is no PyTorch checkpoint, or is truncated or damaged "
            f"({type(error).__name__}).",
            "Fetch the file again.",
        ) from error


def _objects(checkpoint: Path) -> list[str]:
    """Names of what the file holds beside tensors and plain values; nothing of it is run."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(checkpoint))
    except Exception:  # noqa: BLE001 - an older format or damaged: torch.load says what it is
        return []


@contextmanager
def _placeholders(checkpoint: Path) -> Iterator[None]:
    """Within it, torch.load replaces objects of SKIPPED packages by placeholders."""
    skipped: list[Any] = [_placeholder(name) for name in _objects(checkpoint) if SKIPPED.match(name)]
    with torch.serialization.safe_globals(skipped):
        yield


class _Skipped:
    """Placeholder of an object: it has no state, and its class cannot be called."""

    def __new__(cls, *_: Any, **__: Any) -> "_Skipped":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        raise pickle.UnpicklingError(f"{type(self).__name__} is called")

    def __setstate__(self, _: Any) -> None:
        """The state is dropped."""


def _placeholder(name: str) -> type:
    module, _, own = name.rpartition(".")
    return type(own, (_Skipped,), {"__module__": module})
