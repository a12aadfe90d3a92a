"""Encoders of a whole radiograph by name, for the conditioning of the papers' denoiser and for radiograph
classifiers.

All read radiographs from the step radiographs with input=whole, normalised as in the papers; the
normalisation of their own training is not used, as in X-ray2CTPA's release.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from monai.networks.nets import DenseNet
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.models.encoders.radimagenet import (
    RADIMAGENET_FILE,
    radimagenet_resnet50,
    read_tensors,
    resnet50,
)
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.protocols import Conditioning
from xray2ctpa_core.models.weights import load_exactly, refuse

#: Files of the published encoders: open_clip's, transformers'.
_CLIP_CONFIG, _CLIP_WEIGHTS = (
    "open_clip_config.json",
    ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
)
_DINO_CONFIG, _DINO_WEIGHTS = "config.json", "model.safetensors"
#: Keys of DINOv2's configuration that determine the network's shape.
_DINO_ARCHITECTURE = (
    "num_hidden_layers", "num_attention_heads", "mlp_ratio", "image_size", "patch_size", "use_swiglu_ffn",
)  # fmt: skip


class PublishedEncoder(ModelMixin, ConfigMixin):
    """A radiograph -> one embedding.

    Args:
        name: one of ENCODERS.
        architecture: arguments of its trunk; the published values by default (`small_trunk`'s for "small").
        embedding_dim: length of the embedding.
        channels: input channels of the trunk; the radiograph is repeated in all of them.
        pixels: pixels along a side, to which radiographs are resampled; 0 does not resample.

    Raises:
        InputError: an unknown name, or the packages of that encoder are not installed.
    """

    @register_to_config
    def __init__(
        self,
        name: str = "small",
        architecture: dict[str, Any] | None = None,
        embedding_dim: int = 512,
        channels: int = 1,  # noqa: ARG002 - read from the configuration
        pixels: int = 0,  # noqa: ARG002
    ) -> None:
        super().__init__()
        if name not in ENCODERS:
            raise InputError(f"Expected an encoder out of {', '.join(ENCODERS)}, got {name!r}.")
        self.trunk = ENCODERS[name](**{"embedding_dim": embedding_dim, **(architecture or {})})

    @property
    def embedding_dim(self) -> int:
        """Length of the embedding."""
        return int(self.config["embedding_dim"])

    def train(self, mode: bool = True) -> "PublishedEncoder":
        """A frozen encoder stays in evaluation mode, also as part of another module."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def condition(self, image: torch.Tensor) -> Conditioning:
        """(B, 1, P, P), normalised -> `global` conditioning of the denoiser."""
        return Conditioning(self(image.to(self.device, self.dtype)))

    def forward(self, radiograph: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P), normalised -> (B, embedding_dim)."""
        pixels = self.config["pixels"]
        if pixels and radiograph.shape[-1] != pixels:
            radiograph = functional.interpolate(radiograph, (pixels, pixels), mode="bilinear", antialias=True)
        return self.trunk(radiograph.expand(-1, self.config["channels"], -1, -1))


def small_trunk(
    embedding_dim: int,
    init_features: int = 16,
    growth_rate: int = 12,
    block_config: tuple[int, ...] = (3, 3, 3, 3),
) -> nn.Module:
    """A 2D DenseNet with group normalisation and some hundred thousand parameters."""
    return DenseNet(
        spatial_dims=2,
        in_channels=1,
        out_channels=embedding_dim,
        init_features=init_features,
        growth_rate=growth_rate,
        block_config=tuple(block_config),
        norm=("group", {"num_groups": 1}),
    )


def _resnet_trunk(embedding_dim: int, layers: tuple[int, ...] = (3, 4, 6, 3)) -> nn.Module:  # noqa: ARG001
    return resnet50(tuple(layers))


def _clip_trunk(
    embedding_dim: int,
    model: str = "vit_base_patch16_224",
    image_size: int = 224,
    pool: str = "",
    proj: str = "linear",
) -> nn.Module:
    """The image tower only: the text tower is not used and would have to be downloaded."""
    _bring_back("torchvision", "transformers")
    try:
        from open_clip.timm_model import TimmModel
    except ImportError as error:
        raise InputError(f"BiomedCLIP needs open_clip: {error}.", "Install xray2ctpa-core[clip].") from error
    return TimmModel(model, embedding_dim, image_size, pool=pool, proj=proj)


def _dino_trunk(embedding_dim: int, **config: Any) -> nn.Module:
    _bring_back("torchvision", "transformers")
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError as error:
        raise InputError(
            f"DINOv2 needs transformers: {error}.", "Install xray2ctpa-core[training]."
        ) from error
    return _ClassToken(Dinov2Model(Dinov2Config(**{"hidden_size": embedding_dim, **config})))


def _bring_back(*packages: str) -> None:
    """Lets ``packages`` be imported that this process has left out to start faster (cli.lean), and torch's
    compiler, a part of which torchvision imports, before its placeholder is in the way."""
    for name in packages:
        if name in sys.modules and sys.modules[name] is None:
            del sys.modules[name]
    _ = importlib.import_module("torch._dynamo").config


class _ClassToken(nn.Module):
    """DINOv2's normalised class token."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(pixel_values=image).pooler_output


class _OwnTrunk(nn.Module):
    """XrayEncoder, reduced to its embedding."""

    def __init__(self, network: XrayEncoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.network(image, 0).embedding


def _own_trunk(embedding_dim: int, **config: Any) -> nn.Module:
    return _OwnTrunk(XrayEncoder(**{"embedding_dim": embedding_dim, **config}))


#: (embedding_dim, **architecture) -> trunk, random weights.
ENCODERS: dict[str, Callable[..., nn.Module]] = {
    "small": small_trunk,
    "radimagenet-resnet50": _resnet_trunk,
    "biomedclip": _clip_trunk,
    "dinov2": _dino_trunk,
    "own": _own_trunk,
}


def published_encoder(name: str, folder: Path) -> PublishedEncoder:
    """The encoder ``name`` with the weights in ``folder``, in evaluation mode.

    Args:
        name: one of ENCODERS.
        folder: a PublishedEncoder saved by the step cxr-classifier (the only form of "small"), or published
            files: for "radimagenet-resnet50" ResNet50.pt; for "biomedclip" open_clip_config.json and
            open_clip_pytorch_model.bin (or open_clip_model.safetensors); for "dinov2" config.json and
            model.safetensors; for "own" a bundle's xray_encoder, which reads frames of the lungs (step
            radiographs with input=frame).

    Raises:
        InputError: an unknown name, a missing file or package.
        BundleError: weights that do not fit, or an invalid configuration.
    """
    folder = Path(folder)
    if name not in ENCODERS:
        raise InputError(f"Expected an encoder out of {', '.join(ENCODERS)}, got {name!r}.")
    config = _read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    if config.get("_class_name") == PublishedEncoder.__name__:
        if config["name"] != name:
            raise BundleError(f"Expected the encoder {name} in {folder}, got {config['name']}.")
        return PublishedEncoder.from_pretrained(folder, use_safetensors=True).eval()
    if name == "small":
        raise InputError(
            f"Expected an encoder in {folder}, found none.",
            "Train one by the step cxr-classifier with encoder=small; it saves radiograph_encoder/.",
        )
    read = {
        "radimagenet-resnet50": _read_resnet,
        "biomedclip": _read_clip,
        "dinov2": _read_dino,
        "own": _read_own,
    }[name]
    return read(folder).eval()


def encoder_name(folder: Path) -> str | None:
    """The name (one of ENCODERS) of the encoder that a stage saved in ``folder``; None for other folders."""
    if not (folder / "config.json").is_file():
        return None
    config = _read_json(folder / "config.json")
    return config.get("name") if config.get("_class_name") == PublishedEncoder.__name__ else None


def _read_resnet(folder: Path) -> PublishedEncoder:
    trunk = radimagenet_resnet50(folder / RADIMAGENET_FILE if folder.is_dir() else folder)
    encoder = PublishedEncoder("radimagenet-resnet50", None, 2048, 3, 224)
    encoder.trunk.load_state_dict(trunk.state_dict())
    return encoder


def _read_clip(folder: Path) -> PublishedEncoder:
    config = _read_json(folder / _CLIP_CONFIG)
    try:
        vision = config["model_cfg"]["vision_cfg"]
        architecture = {
            "model": vision["timm_model_name"],
            "image_size": vision["image_size"],
            "pool": vision.get("timm_pool", "avg"),
            "proj": vision.get("timm_proj", "linear"),
        }
        encoder = PublishedEncoder(
            "biomedclip", architecture, config["model_cfg"]["embed_dim"], 3, vision["image_size"]
        )
    except (LookupError, TypeError) as error:
        raise BundleError(f"{folder / _CLIP_CONFIG} describes no image tower of timm: {error}.") from error
    path = _first_file(folder, _CLIP_WEIGHTS)
    tensors = _below("visual.", read_tensors(path, f"{folder} needs {' or '.join(_CLIP_WEIGHTS)}."))
    load_exactly(encoder.trunk, tensors, path.name, "Take BiomedCLIP's own files.")
    return encoder


def _read_dino(folder: Path) -> PublishedEncoder:
    """DINOv2, read by transformers, which also accepts the tensor names of its earlier versions."""
    _read_json(folder / _DINO_CONFIG)
    if not (folder / _DINO_WEIGHTS).is_file():
        raise InputError(f"Expected pretrained weights at {folder / _DINO_WEIGHTS}, which is no file.")
    try:
        from transformers import Dinov2Model

        loaded: Any = Dinov2Model.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except ImportError as error:
        raise InputError(
            f"DINOv2 needs transformers: {error}.", "Install xray2ctpa-core[training]."
        ) from error
    except Exception as error:  # damaged or foreign files raise errors of many types
        raise BundleError(f"{folder} holds no DINOv2 ({type(error).__name__}).") from error
    network, info = loaded
    problems = {
        kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected", "mismatched")
    }
    refuse(f"{folder} does not fit Dinov2Model", "Take facebook/dinov2-base's own files.", problems)
    config = network.config.to_dict()
    architecture = {key: config[key] for key in _DINO_ARCHITECTURE if key in config}
    # The position table is for image_size; radiographs are read at 224 pixels, or at image_size if smaller.
    encoder = PublishedEncoder(
        "dinov2", architecture, config["hidden_size"], 3, min(config["image_size"], 224)
    )
    trunk: Any = encoder.trunk
    trunk.network.load_state_dict(network.state_dict())
    return encoder


def _read_own(folder: Path) -> PublishedEncoder:
    config = _read_json(folder / "config.json")
    if config.get("_class_name") != XrayEncoder.__name__:
        raise BundleError(f"Expected a bundle's {XrayEncoder.__name__} in {folder}, got another network.")
    architecture = {key: value for key, value in config.items() if not key.startswith("_")}
    encoder = PublishedEncoder("own", architecture, architecture["embedding_dim"])
    trunk: Any = encoder.trunk
    trunk.network.load_state_dict(XrayEncoder.from_pretrained(folder, use_safetensors=True).state_dict())
    return encoder


def _first_file(folder: Path, names: tuple[str, ...]) -> Path:
    return next((folder / name for name in names if (folder / name).is_file()), folder / names[-1])


def _below(prefix: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(f"Expected an encoder's configuration at {path}, which is no file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object, got {type(content).__name__}.")
    return content
