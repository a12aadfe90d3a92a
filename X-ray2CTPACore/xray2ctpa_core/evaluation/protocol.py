"""The protocol of a pipeline for evaluation."""

import hashlib
from typing import Any, Protocol

import numpy as np
import torch

from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.pipelines.bundle import BundleInfo
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume


class GeneratedResult(Protocol):
    """The part of a pipeline's result that evaluation uses."""

    @property
    def pe_probability(self) -> float | None:
        """Calibrated, the mean over the samples; None without classifier."""

    @property
    def gradcam(self) -> Volume:
        """0 to 1 on the volume's grid."""

    @property
    def consistency(self) -> dict[str, float]:
        """{"frontal_correlation": -1..1} of the first sample's projection with the radiograph."""

    @property
    def samples(self) -> np.ndarray | None:
        """(K, D, H, W) float32 HU, with ``output_samples=True``."""


class EvaluatedPipeline(Protocol):
    """The part of XRay2CTPAPipeline that evaluation uses."""

    bundle: BundleInfo
    taught_radiographs: TaughtRadiographs | None

    @property
    def device(self) -> torch.device:
        """Device of its networks, on which all input tensors must be."""

    def __call__(
        self,
        radiograph: Radiograph,
        *,
        frame: FrontalFrame | None = None,
        num_inference_steps: int | None = None,
        num_samples: int = 1,
        seed: int = 0,
        output_samples: bool = False,
    ) -> GeneratedResult:
        """Generates ``num_samples`` volumes; the first does not depend on their number."""

    def encode(self, volume: Any) -> torch.Tensor:
        """(1, D, H, W) HU -> (1, C, D, h, w) standardised latents."""

    def decode(self, latents: torch.Tensor) -> Any:
        """Latents -> (K, D, H, W) HU."""

    def classify(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> (K,) logits of PE, uncalibrated; (0,) without classifier."""

    def classify_radiograph(self, image: torch.Tensor) -> torch.Tensor | None:
        """(1, 1, F, F) -> logit of PE from the radiograph alone; None for an encoder without that head."""


def to_array(values: Any) -> np.ndarray:
    """float32 array of a tensor on any device, or of an array."""
    if isinstance(values, torch.Tensor):
        return values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def to_number(value: Any) -> float:
    """The single number in a tensor, array or float."""
    return float(to_array(value).reshape(-1)[0])


def taught_people(bundle: BundleInfo) -> frozenset[str]:
    """Names of the people whose CTs were used in the bundle's training (training.people in bundle.json);
    none if it does not list them."""
    return frozenset(map(str, bundle.training.get("people", ())))


def weights_id(bundle: BundleInfo) -> str:
    """12 hex digits that depend on the weights and their use, but not on the model card's numbers."""
    return _digits(bundle, "README.md")


def volumes_id(bundle: BundleInfo) -> str:
    """As `weights_id`, but without the PE classifier, on which volumes do not depend."""
    return _digits(bundle, "README.md", "pe_classifier/")


def _digits(bundle: BundleInfo, *left_out: str) -> str:
    files = sorted(bundle.files.items())
    weights = [f"{name} {digest}" for name, digest in files if not name.startswith(left_out)]
    text = "\n".join([bundle.name, repr(bundle.hu_window), repr(bundle.sampling), *weights])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
