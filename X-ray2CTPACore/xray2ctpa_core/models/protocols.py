"""The protocols of a pipeline's parts. A part that follows its protocol can be trained, packed into a
bundle, run and evaluated.

Axes: volumes (B, 1, D, H, W) are (foot to head, front to back, patient's right to left), latents
(B, C, d, h, w) likewise; radiographs (B, 1, P, P) have rows from the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from xray2ctpa_core.preprocessing.gate import GateReport
from xray2ctpa_core.volume import FrontalFrame, Radiograph


@dataclass(frozen=True)
class Conditioning:
    """The output of an encoder for a batch of radiographs; parts that it does not compute are None.

    Attributes:
        embedding: (B, E), one vector for each radiograph: `global` conditioning (X-ray2CTPA, section 3.2).
        spatial: (B, S, d, h, w), features on the latent grid: `spatial` conditioning.
        expected: (B, C, d, h, w), the expected latents given the radiograph, with the scaling of the
            denoiser's latents.
    """

    embedding: torch.Tensor | None = None
    spatial: torch.Tensor | None = None
    expected: torch.Tensor | None = None


def for_denoiser(conditionings: Sequence[Conditioning]) -> Conditioning:
    """What a denoiser reads of the conditionings of single samples, side by side: (B, ...)."""
    first = conditionings[0]
    joined = {
        name: torch.cat([getattr(one, name) for one in conditionings])
        for name in ("embedding", "spatial")
        if getattr(first, name) is not None
    }
    return Conditioning(**joined)


def embedding_of(conditioning: Conditioning | torch.Tensor) -> torch.Tensor:
    """The embedding (B, E) of a conditioning, or of a tensor that is the embedding itself.

    Raises:
        ValueError: the conditioning has none.
    """
    if isinstance(conditioning, torch.Tensor):
        return conditioning
    if conditioning.embedding is None:
        raise ValueError("Expected a conditioning with an embedding, got one without.")
    return conditioning.embedding


@runtime_checkable
class Codec(Protocol):
    """Volumes in [-1, 1] <-> latents, unscaled: a 2D autoencoder slice by slice, a 3D VQGAN, identity."""

    def encode(self, volumes: torch.Tensor) -> torch.Tensor:
        """(B, 1, D, H, W) -> (B, C, d, h, w), float32."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w) -> (B, 1, D, H, W), float32, approximately in [-1, 1]."""


@runtime_checkable
class RadiographEncoder(Protocol):
    """Computes the denoiser's conditioning from radiographs."""

    def condition(self, image: torch.Tensor) -> Conditioning:
        """(B, 1, P, P), output of the framing -> conditioning of the batch."""


@runtime_checkable
class Denoiser(Protocol):
    """The network that is called in every step; a direct regressor is called once.

    If a denoiser diffuses something other than scaled latents (a residual, a map), its attribute
    ``diffused_channels`` is the number of channels of that, or ``diffused_shape`` its (C, d, h, w);
    diffusion.residual converts it to latents.
    """

    config: Any

    def __call__(
        self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Prediction of the scheduler's prediction_type.

        Args:
            sample: (B, C, d, h, w), noisy.
            timestep: (B,) in [0, num_train_timesteps).
            conditioning: of the B samples.

        Returns:
            As ``sample``.
        """


@runtime_checkable
class Classifier(Protocol):
    """PE from scaled latents, with a layer that Grad-CAM explains."""

    #: Name of that layer, as in ``named_modules()``.
    gradcam_layer: str

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """(B, C, d, h, w), scaled -> (B, 1) logits, not calibrated."""


@dataclass(frozen=True)
class FramedRadiograph:
    """A radiograph, the gate's report, and the square of it that the networks read.

    Attributes:
        radiograph: as given, with inverted greys corrected.
        frame: the square, in pixels of the radiograph, to which the generated volume corresponds.
        gate: the input gate's report; without doubts if the caller gave the frame.
        image: (P, P) float32, the encoder's input.
    """

    radiograph: Radiograph
    frame: FrontalFrame
    gate: GateReport
    image: torch.Tensor


@runtime_checkable
class Framing(Protocol):
    """Converts a radiograph to the encoder's input, and finds the frame of the volume."""

    def __call__(self, radiograph: Radiograph, frame: FrontalFrame | None = None) -> FramedRadiograph:
        """Frames ``radiograph``; a given ``frame`` is used unchanged and without the gate."""
