"""Feature networks of FID and FVD: published TorchScript files, or else a named substitute."""

from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.metrics.perceptual import PerceptualDistance

#: Kinetics-400 I3D as TorchScript, the file of StyleGAN-V's and most published FVD code; (N, 400) features.
I3D_FILE = "i3d_torchscript.pt"
I3D_PIXELS = 224
#: The I3D's pooling over time needs this many slices.
I3D_SLICES = 9
#: Inception-v3 of the original FID as TorchScript, the file of StyleGAN's FID code; (N, 2048) features.
INCEPTION_FILE = "inception-2015-12-05.pt"
#: Slice networks and perceptual distances read every fourth axial slice: a quarter of the time, the same mean
#: to 1 %.
SLICE_STEP = 4
#: Slices of one direction: number, central share of the volume that they cover, pixels along a side, HU
#: window (lung and soft tissue).
PLANE_SLICES, PLANE_SHARE, PLANE_PIXELS, PLANE_WINDOW = 12, 0.8, 128, (-1000.0, 400.0)
#: Axis of (D, H, W) across each direction's slices.
PLANE_AXES = {"axial": 0, "coronal": 1, "sagittal": 2}


class FeatureNetwork(Protocol):
    """Features of one volume.

    Attributes:
        title: the column's heading with the name of the features; says FID or FVD only for their networks.
        window: HU (lower, upper) to which volumes are clipped; None for that of the evaluation.
    """

    title: str
    window: tuple[float, float] | None

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """(D, H, W) in [-1, 1], axial slices -> (R, F) float32: a row for each slice, or one for the clip."""


class SubstituteSlices:
    """EfficientNet-Lite0's features of every fourth slice, averaged over positions: (R, 112).

    The network was trained on ImageNet and comes with packages (see ``PerceptualDistance``). It is not
    Inception, so the distance is no FID and has another scale.
    """

    title = "Fréchet distance of slices (EfficientNet-Lite0 features; no FID)"
    window: tuple[float, float] | None = None

    def __init__(self, network: PerceptualDistance) -> None:
        self._network = network

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """(D, H, W) -> (R, F)."""
        return _pooled(self._network, _check_volume(volume)[SLICE_STEP // 2 :: SLICE_STEP])


class SubstituteClip:
    """The slices' EfficientNet-Lite0 features, their mean and their mean change from one slice to the next.

    (1, 224): content of the slices and its rate of change along the patient. It replaces a video network but
    is not I3D, so the distance is no FVD.
    """

    title = "Fréchet distance of clips (EfficientNet-Lite0 features: mean and change along slices; no FVD)"
    window: tuple[float, float] | None = None

    def __init__(self, network: PerceptualDistance) -> None:
        self._network = network

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """(D, H, W), at least 2 slices -> (1, F)."""
        rows = _pooled(self._network, _check_volume(volume))
        return torch.cat([rows.mean(dim=0), rows.diff(dim=0).abs().mean(dim=0)])[None]


class PlaneSlices:
    """EfficientNet-Lite0's features of PLANE_SLICES slices of one direction: (PLANE_SLICES, 112).

    Slices are evenly spaced in the central PLANE_SHARE of the volume and resampled to PLANE_PIXELS a side.
    Coronal and sagittal slices reveal smearing along the rays and noise that axial slices may hide.

    Args:
        network: gives the features.
        plane: "axial", "coronal" or "sagittal".
    """

    window: tuple[float, float] | None = PLANE_WINDOW

    def __init__(self, network: PerceptualDistance, plane: str) -> None:
        self._network, self._axis = network, PLANE_AXES[plane]
        self.title = f"Fréchet distance of {plane} slices (EfficientNet-Lite0 features; no FID)"

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """(D, H, W) -> (PLANE_SLICES, F)."""
        slices = _check_volume(volume).movedim(self._axis, 0)
        margin = (1 - PLANE_SHARE) / 2 * (len(slices) - 1)
        places = torch.linspace(margin, len(slices) - 1 - margin, PLANE_SLICES).round().long()
        chosen = F.interpolate(slices[places][:, None].float(), (PLANE_PIXELS, PLANE_PIXELS), mode="bilinear")
        return _pooled(self._network, chosen[:, 0])


class TorchScriptFeatures:
    """A published feature network from a TorchScript file.

    Args:
        path: I3D_FILE, which reads the volume as one clip of RGB frames in [-1, 1] at 224 x 224 pixels, or
            INCEPTION_FILE, which reads every fourth slice as 8-bit RGB and scales it itself, both as in
            StyleGAN-V's evaluation.
        device: where it computes.

    Raises:
        InputError: no such file, another name, or no TorchScript.
    """

    window: tuple[float, float] | None = None

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        if path.name not in (I3D_FILE, INCEPTION_FILE):
            raise InputError(f"Expected {I3D_FILE} or {INCEPTION_FILE}, got {path.name}.")
        with reading(path, "TorchScript"):
            self._network = torch.jit.load(str(path), map_location=device).eval()
        self._path, self._device = path, device
        self._is_clip = path.name == I3D_FILE
        what = ("FVD", "I3D") if self._is_clip else ("FID", "Inception-v3")
        self.title = f"{what[0]} ({what[1]}: {path.name}, SHA-256 {file_sha256(path)[:8]})"

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """(D, H, W) -> (R, F); raises InputError where the network gives no such features."""
        _check_volume(volume)
        with torch.no_grad():
            features = self._clip(volume) if self._is_clip else self._slices(volume)
        if not isinstance(features, torch.Tensor) or features.ndim != 2:
            raise InputError(f"Expected features (N, F) of {self._path.name}, got {_shape(features)}.")
        return features.float().cpu()

    def _clip(self, volume: torch.Tensor) -> Any:
        if len(volume) < I3D_SLICES:
            raise InputError(f"FVD needs at least {I3D_SLICES} slices, got {len(volume)}.")
        frames = F.interpolate(volume[:, None].float(), (I3D_PIXELS, I3D_PIXELS), mode="bilinear")
        clip = frames.permute(1, 0, 2, 3)[None].expand(-1, 3, -1, -1, -1).contiguous().to(self._device)
        return self._network(clip, rescale=False, resize=False, return_features=True)

    def _slices(self, volume: torch.Tensor) -> Any:
        greys = ((volume[SLICE_STEP // 2 :: SLICE_STEP, None].float() + 1) * 127.5).round().clamp(0, 255)
        images = greys.to(torch.uint8).expand(-1, 3, -1, -1).contiguous().to(self._device)
        return self._network(images, return_features=True)


def clip_network(weights: Path | None, substitute: PerceptualDistance) -> FeatureNetwork:
    """The I3D in the folder ``weights``, or the named substitute where there is none."""
    return _file_or(weights, I3D_FILE) or SubstituteClip(substitute)


def slice_network(weights: Path | None, substitute: PerceptualDistance) -> FeatureNetwork:
    """The Inception in the folder ``weights``, or the named substitute where there is none."""
    return _file_or(weights, INCEPTION_FILE) or SubstituteSlices(substitute)


def _file_or(weights: Path | None, name: str) -> TorchScriptFeatures | None:
    if weights is None:
        return None
    if not weights.is_dir():
        raise InputError(f"Expected a folder of weights, got {weights}.")
    return TorchScriptFeatures(weights / name) if (weights / name).is_file() else None


def _pooled(network: PerceptualDistance, slices: torch.Tensor) -> torch.Tensor:
    """(N, H, W) in [-1, 1] -> (N, F): the deepest stage's features, averaged over positions."""
    device = next(network.parameters()).device
    with torch.no_grad():
        rows = [
            network.features(part[:, None].float().to(device))[-1].mean(dim=(2, 3))
            for part in slices.split(16)
        ]
    return torch.cat(rows).cpu()


def _check_volume(volume: torch.Tensor) -> torch.Tensor:
    if volume.ndim != 3 or len(volume) < SLICE_STEP or min(volume.shape[1:]) < 32:
        raise InputError(
            f"Expected a volume (D, H, W) of at least {SLICE_STEP} x 32 x 32, got {tuple(volume.shape)}."
        )
    return volume


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, torch.Tensor) else type(value).__name__
