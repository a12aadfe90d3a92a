"""The ResNet-50 of RadImageNet (Mei et al., Radiology: AI 2022) in its published PyTorch format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.models.weights import load_exactly

#: RadImageNet's published file: a state dict with the children of a ResNet without last layer, by number.
RADIMAGENET_FILE = "ResNet50.pt"
_PREFIX = "backbone."
_CHILDREN = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4", "avgpool")
_HINT = f"Put RadImageNet's {RADIMAGENET_FILE} (a state dict) there."


def resnet50(layers: tuple[int, ...] = (3, 4, 6, 3)) -> nn.Module:
    """Torchvision's bottleneck ResNet without its last layer: (B, 3, H, W) -> (B, 2048), random weights."""
    try:
        from torchvision.models.resnet import Bottleneck, ResNet
    except ImportError as error:
        raise InputError(
            f"ResNet-50 needs torchvision: {error}.", "Install xray2ctpa-core[training]."
        ) from error
    network = ResNet(Bottleneck, list(layers))
    network.fc = nn.Identity()
    return network


def radimagenet_resnet50(weights: Path, layers: tuple[int, ...] = (3, 4, 6, 3)) -> Any:
    """`resnet50` with published weights, in evaluation mode.

    Args:
        weights: RADIMAGENET_FILE, or its folder.
        layers: blocks of the stages.

    Raises:
        InputError: no such file.
        BundleError: not a state dict of this network, name by name.
    """
    path = Path(weights) / RADIMAGENET_FILE if Path(weights).is_dir() else Path(weights)
    tensors = read_tensors(path, _HINT)
    network = resnet50(layers)
    load_exactly(network, tensors, path.name, _HINT, _published_name(tensors))
    return network.eval()


def read_tensors(path: Path, hint: str) -> Mapping[str, torch.Tensor]:
    """Reads a state dict file; only tensors are unpickled.

    Raises:
        InputError: no such file.
        BundleError: damaged, or it holds anything else.
    """
    if not path.is_file():
        raise InputError(f"Expected pretrained weights at {path}, which is no file.", hint)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors report damaged bytes by many types
        raise BundleError(f"{path} is no file of tensors ({type(error).__name__}).", hint) from error
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise BundleError(f"Expected a state dict in {path}, got other objects.", hint)
    return content


def _published_name(tensors: Mapping[str, torch.Tensor]) -> Any:
    """Function from torchvision's names to those in ``tensors``: RadImageNet's, or torchvision's own."""
    if not any(name.startswith(_PREFIX) for name in tensors):
        return str

    def published(name: str) -> str:
        child, _, rest = name.partition(".")
        return f"{_PREFIX}{_CHILDREN.index(child)}.{rest}"

    return published
