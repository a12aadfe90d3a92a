"""A second opinion on PE from the radiograph alone, beside the volume's score, with its own calibration."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from xray2ctpa_core.constants import FRAME_PIXELS
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.preprocessing.cxr import CxrSettings, radiograph_image
from xray2ctpa_core.preprocessing.frame import frame_image
from xray2ctpa_core.volume import FrontalFrame, Radiograph

#: Key of the calibration (OpinionSettings) of the radiograph encoder's linear layer in a bundle's metrics.
HEAD_CALIBRATION = "radiograph calibration"
RESTS_ON_HEAD = "radiograph alone: a linear layer on the radiograph encoder's embedding; no volume"
#: Longest side of an opinion's Grad-CAM map in a result; a network's own maps are far coarser.
MAP_PIXELS = 512
#: Probabilities of signs are clamped to this distance from 0 and 1.
_CERTAIN = 1e-6
#: Inputs of a network: the lungs' square with equalised greys, or the whole radiograph as for the papers'
#: encoders.
INPUTS = ("frame", "whole")


@dataclass(frozen=True)
class SecondOpinion:
    """PE from the radiograph alone.

    Attributes:
        probability: 0 to 1.
        threshold: probability from which it counts as positive.
        calibrated: whether probability and threshold were fitted on held-out patients.
        rests_on: description of what the score was computed from.
    """

    probability: float
    threshold: float
    calibrated: bool
    rests_on: str

    @property
    def positive(self) -> bool:
        """Whether the probability reaches the threshold."""
        return self.probability >= self.threshold

    def content(self) -> dict[str, Any]:
        """The value of result.json's key pe.second_opinion."""
        return {
            "probability": self.probability,
            "threshold": self.threshold,
            "positive": self.positive,
            "calibrated": self.calibrated,
            "rests_on": self.rests_on,
        }


@dataclass(frozen=True)
class OpinionSettings:
    """Settings of an opinion: second_opinion.json of a prior, or HEAD_CALIBRATION in a bundle's metrics.

    Attributes:
        threshold, platt_a, platt_b, calibrated: as bundle.PEOperatingPoint has them.
        input: of INPUTS.
        pixels: along a side of the input.
        mean, std, keep_aspect: of preprocessing.cxr.CxrSettings, for the whole radiograph.
        steps: of a prior; 0 for every noise level.
        draws, choice, guidance_scale: of diffusion.prior_readout.PriorReadout.
        sampler: "ddpm", "ddim" or "analytic" (whose measured variances are in the scheduler's file).
        trained_on: description of the training data.
    """

    threshold: float = 0.5
    platt_a: float = 1.0
    platt_b: float = 0.0
    calibrated: bool = False
    input: str = "frame"
    pixels: int = FRAME_PIXELS
    mean: float = CxrSettings.mean
    std: float = CxrSettings.std
    keep_aspect: bool = CxrSettings.keep_aspect
    steps: int = 0
    draws: int = 4
    choice: str = "mean"
    guidance_scale: float = 1.0
    sampler: str = "ddpm"
    trained_on: str = ""

    def __post_init__(self) -> None:
        if self.input not in INPUTS or not 0 < self.threshold < 1 or self.pixels < 1:
            raise ConfigError(
                f"Expected an input of {', '.join(INPUTS)}, a threshold between 0 and 1 and pixels, got "
                f"{self.input!r}, {self.threshold} and {self.pixels}."
            )


class OpinionReader:
    """A classifier of radiographs with its calibration.

    Args:
        network: (B, 1, P, P), input of its encoder -> (B, 1) or (B,) logits. If it has a ``gradcam_layer``,
            Grad-CAM explains the logit ``explained(image)``, (B, 1).
        settings: its calibration and input.
        rests_on: in words.
        style: translates the lungs' square, in [0, 1], before the network reads it; None for none.
    """

    def __init__(
        self,
        network: nn.Module,
        settings: OpinionSettings,
        rests_on: str,
        style: StyleTransfer | None = None,
    ) -> None:
        self.network, self.settings, self.rests_on, self._style = network, settings, rests_on, style

    def image_of(self, radiograph: Radiograph, frame: FrontalFrame) -> torch.Tensor:
        """(1, 1, P, P) float32, the input of the network.

        Args:
            radiograph: with air dark.
            frame: its lungs' square.
        """
        made = self.settings
        if made.input == "whole":
            read = CxrSettings(made.pixels, made.mean, made.std, made.keep_aspect)
            image = radiograph_image(radiograph.pixels, read)
        else:
            image = frame_image(radiograph.pixels, frame, made.pixels)
        given = torch.from_numpy(image)[None, None]
        return given if self._style is None else self._style.restyled(given)

    @property
    def has_map(self) -> bool:
        """Whether the network has a layer of maps, so that `heat` is one."""
        return getattr(self.network, "gradcam_layer", None) is not None

    def heat(
        self, radiograph: Radiograph, frame: FrontalFrame, longest: int | None = None
    ) -> np.ndarray | None:
        """Grad-CAM of the score on the whole radiograph.

        Args:
            radiograph, frame: as in `image_of`.
            longest: side in pixels that the map has at most; None for the radiograph's own pixels.

        Returns:
            (h, w) float32 in 0..1; None for a network without a layer of maps.
        """
        # Imported here: it imports MONAI, which a score does not need.
        from xray2ctpa_core.explanation.radiograph_gradcam import on_radiograph, radiograph_gradcam

        if not self.has_map:
            return None
        found = radiograph_gradcam(self.network, self.image_of(radiograph, frame))
        shape = height, width = radiograph.pixels.shape
        part = min(1.0, (longest or max(shape)) / max(shape))
        drawn = max(1, round(height * part)), max(1, round(width * part))
        if self.settings.input == "frame":
            return on_radiograph(found, frame, shape, drawn)
        if self.settings.keep_aspect:  # the whole radiograph, in the middle of a square
            side = max(shape)
            square = FrontalFrame((height - side) / 2, (width - side) / 2, side)
            return on_radiograph(found, square, shape, drawn)
        whole = torch.from_numpy(found)[None, None]
        return nn.functional.interpolate(whole, drawn, mode="bilinear", align_corners=False)[0, 0].numpy()

    @torch.no_grad()
    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B,) float32 logits, not calibrated."""
        place = next(self.network.parameters())
        return self.network(image.to(place.device, place.dtype)).float().reshape(len(image))

    def score(self, given: torch.Tensor | Radiograph, frame: FrontalFrame | None = None) -> SecondOpinion:
        """The opinion on one radiograph.

        Args:
            given: a radiograph, or its image (1, 1, P, P) from `image_of`.
            frame: the lungs' square of a radiograph.

        Raises:
            InputError: a radiograph without its frame, or several images.
        """
        if isinstance(given, Radiograph):
            if frame is None:
                raise InputError("A radiograph's opinion needs the frame of its lungs, got none.")
            given = self.image_of(given, frame)
        if len(given) != 1:
            raise InputError(f"Expected one image (1, 1, P, P), got shape {tuple(given.shape)}.")
        return self.scores(given)[0]

    def scores(self, images: torch.Tensor) -> list[SecondOpinion]:
        """The opinions on several radiographs, of their images (B, 1, P, P)."""
        settings = self.settings
        scaled = settings.platt_a * self.logits(images).double() + settings.platt_b
        return [
            SecondOpinion(float(probability), settings.threshold, settings.calibrated, self.rests_on)
            for probability in scaled.sigmoid()
        ]


class HeadReader(nn.Module):
    """The PE head of a bundle's own radiograph encoder: (B, 1, P, P) -> (B, 1) logits.

    Args:
        encoder: whose forward pass, called with (image, 0), gives features with ``pe_logit``.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.shown = nn.Identity()

    @staticmethod
    def fits(encoder: nn.Module) -> bool:
        """Whether ``encoder`` has a PE head."""
        return isinstance(encoder, XrayEncoder | BankEncoder)

    @property
    def gradcam_layer(self) -> str:
        """Module for Grad-CAM: an encoder's own ``gradcam_layer``; else the maps of radiographic signs, if
        the encoder has them; else the features from which the embedding is computed. Grad-CAM cannot
        localise the part of the score that comes from the embedding of the whole frame."""
        own = getattr(self.encoder, "gradcam_layer", None)
        if own is not None:
            return f"encoder.{own}"
        return "encoder.down.1" if getattr(self.encoder, "see_signs", None) is None else "shown"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE."""
        return self.encoder(image, 0).pe_logit[:, None]

    def explained(self, image: torch.Tensor) -> torch.Tensor:
        """The logit, computed through the layer that Grad-CAM reads."""
        explained = getattr(self.encoder, "explained", None)
        if explained is not None:
            return explained(image)
        see_signs = getattr(self.encoder, "see_signs", None)
        if see_signs is None:
            return self(image)

        def through_probabilities(_layer: nn.Module, _given: Any, signs: torch.Tensor) -> torch.Tensor:
            return self.shown(signs.sigmoid()).logit(_CERTAIN)

        handle = see_signs.register_forward_hook(through_probabilities)
        try:
            return self(image)
        finally:
            handle.remove()


def calibrated(settings: OpinionSettings, logits: np.ndarray, labels: np.ndarray) -> OpinionSettings:
    """The settings with Platt scaling and Youden's threshold of held-out patients.

    Args:
        settings: of which only the calibration is replaced.
        logits: (N,) uncalibrated, of patients on whom nothing was trained.
        labels: (N,) 0 or 1, both present.
    """
    # Imported here: it imports scipy's statistics, which an opinion does not need.
    from xray2ctpa_core.metrics.calibration import fit_platt
    from xray2ctpa_core.metrics.classification import youden_threshold

    fitted = fit_platt(logits, labels)
    threshold = youden_threshold(labels, fitted.probability(logits))
    return replace(
        settings,
        threshold=float(np.clip(threshold, 1e-6, 1 - 1e-6)),
        platt_a=fitted.slope,
        platt_b=fitted.intercept,
        calibrated=True,
    )
