"""What evaluation needs of a pipeline, and names for what it calls."""

import hashlib
from typing import Any, Protocol

import numpy as np
import torch

from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.pipelines.bundle import BundleInfo
from xray2ctpa_core.volume import FrontalFrame, Radiograph, Volume


class GeneratedResult(Protocol):
    """What one call of the pipeline gives back, as far as evaluation reads it."""

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
        """Where its networks are; every tensor passed in is put there."""

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
        """Generates ``num_samples`` volumes; the first is the same whatever their number."""

    def encode(self, volume: Any) -> torch.Tensor:
        """(1, D, H, W) HU -> (1, C, D, h, w) standardised latents."""

    def decode(self, latents: torch.Tensor) -> Any:
        """Latents -> (K, D, H, W) HU."""

    def classify(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents -> (K,) logits of PE, uncalibrated; (0,) without classifier."""

    @property
    def scores_radiographs(self) -> bool:
        """Whether there is a head for ``classify_radiograph``."""

    def classify_radiograph(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 1, F, F) -> logit of PE from the radiograph alone."""


def to_array(values: Any) -> np.ndarray:
    """float32 array of a tensor on any device, or of an array."""
    if isinstance(values, torch.Tensor):
        return values.detach().float().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def to_number(value: Any) -> float:
    """The single number in a tensor, array or float."""
    return float(to_array(value).reshape(-1)[0])


def taught_people(bundle: BundleInfo) -> frozenset[str]:
    """Names of the people whose CTs taught the bundle, as bundle.json says under training.people; none where
    it says nothing."""
    return frozenset(map(str, bundle.training.get("people", ())))


def weights_id(bundle: BundleInfo) -> str:
    """12 hex digits that change with the weights and how they are used, not with the model card's numbers."""
    return _digits(bundle, "README.md")


def volumes_id(bundle: BundleInfo) -> str:
    """As `weights_id`, of what volumes depend on: all but the PE classifier."""
    return _digits(bundle, "README.md", "pe_classifier/")


def _digits(bundle: BundleInfo, *left_out: str) -> str:
    files = sorted(bundle.files.items())
    weights = [f"{name} {digest}" for name, digest in files if not name.startswith(left_out)]
    text = "\n".join([bundle.name, repr(bundle.hu_window), repr(bundle.sampling), *weights])
    return hashlib.sha256(text.encode()).hexdigest()[:12]
