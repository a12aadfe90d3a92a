"""The networks of a bundle, of the classes that its model_index.json names."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, ModelMixin, SchedulerMixin

from xray2ctpa_core.errors import REINSTALL_HINT, BundleError
from xray2ctpa_core.pipelines.loading import part_class

INDEX_FILE = "model_index.json"
SCHEDULER = "scheduler"
#: Translates radiographs to the style of those that the encoder was trained on.
STYLE = "style_transfer"
#: Reads what fills the lungs off a radiograph; samples have it (models.encoders.opacities).
OPACITIES = "opacity_reader"
#: Parts of a pipeline that are networks: codec, denoiser, radiograph encoder, classifier, the locator that
#: frames and judges radiographs, the style transfer, and the opacity reader.
NETWORKS = ("autoencoder", "denoiser", "xray_encoder", "pe_classifier", "lung_locator", STYLE, OPACITIES)
#: Those that a bundle may lack: without a classifier a result has no PE score and no Grad-CAM, without a
#: style transfer radiographs are read as they are, without an opacity reader samples have the lungs that the
#: denoiser and the codec give them.
OPTIONAL = ("pe_classifier", STYLE, OPACITIES)
#: Small, and their decisions hang on thresholds: in single precision always.
_SINGLE = ("pe_classifier", "lung_locator", STYLE, OPACITIES)


def load_parts(folder: Path, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """The parts in ``folder``; None for an optional part that is missing.

    Args:
        folder: of a bundle.
        dtype: of the networks, except those that need single precision.

    Raises:
        BundleError: the index is missing, lacks a part, or names a class that is neither of diffusers nor of
            this package.
    """
    classes = part_classes(folder)
    parts: dict[str, Any] = dict.fromkeys(OPTIONAL)
    for name in NETWORKS:
        if name in classes:
            precision = torch.float32 if name in _SINGLE else dtype
            parts[name] = classes[name].from_pretrained(
                folder / name, torch_dtype=precision, use_safetensors=True
            )
    return parts | {SCHEDULER: classes[SCHEDULER].from_pretrained(folder / SCHEDULER)}


def part_classes(folder: Path) -> dict[str, type[Any]]:
    """The class of each part; errors as in ``load_parts``. Nothing of the bundle is executed."""
    path = folder / INDEX_FILE
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        absent = [name for name in OPTIONAL if index.get(name) in (None, [None, None])]
        named = {name: index[name] for name in (*NETWORKS, SCHEDULER) if name not in absent}
    except (OSError, ValueError) as error:
        raise BundleError(f"Cannot read {path}: {error}.", REINSTALL_HINT) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} names no {error}.", REINSTALL_HINT) from error
    return {name: _class(path, name, entry) for name, entry in named.items()}


def _class(path: Path, part: str, entry: Any) -> type[Any]:
    """The class that an entry [library, class] names."""
    base = SchedulerMixin if part == SCHEDULER else ModelMixin
    try:
        library, name = entry
        if library == "diffusers":
            found = getattr(diffusers, name)
        elif str(library).split(".")[0] == "xray2ctpa_core":
            found = part_class(name)
        else:
            raise LookupError(f"of the library {library!r}")
        if not issubclass(found, base):
            raise LookupError(f"which is no {base.__name__}")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: expected for {part} a class of diffusers or of this package, got {entry!r} ({error}).",
            "Use the version of the program that the bundle was made with.",
        ) from error
    return found


def is_training_schedule(scheduler: Any) -> bool:
    """Whether ``scheduler`` is the noise schedule of training, which the bundle's sampler replaces."""
    return type(scheduler) is DDPMScheduler
