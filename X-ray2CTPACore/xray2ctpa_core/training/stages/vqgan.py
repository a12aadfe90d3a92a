"""Stage: the 3D VQGAN on crops of volumes (Esser et al., CVPR 2021, section 3.1; XctDiff, arXiv
2406.04679)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codebook import Quantised, codebook_usage
from xray2ctpa_core.models.codecs.slices import volumes_to_slices
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.training.losses.adversarial import Critics, adaptive_weight, hinge_loss, hinge_realism
from xray2ctpa_core.training.settings.codecs import VQGANConfig


def build_vqgan(config: VQGANConfig) -> VQGAN:
    """The network that ``config`` describes; raises the errors of VQGAN."""
    return VQGAN(
        config.channels,
        config.depth_strides,
        config.blocks,
        config.latent_channels,
        config.codes,
        config.groups,
        config.inner_channels,
        config.homogeneous,
        config.super_resolution,
    )


class VQGANStage:
    """L1 + codebook + commitment (+ perceptual distance of slices).

    Logs the terms, "mse", and the codebook's "perplexity" and "codes_used" in a batch of crops
    (models.codecs.codebook.codebook_usage).

    Args:
        vqgan: trained.
        config: weights.
        distance: of slices (N, 1, H, W) in [-1, 1]; needed where the perceptual term has a weight.

    Raises:
        ConfigError: the perceptual term has a weight and no distance.
    """

    def __init__(self, vqgan: VQGAN, config: VQGANConfig, distance: nn.Module | None = None) -> None:
        if config.perceptual_weight > 0 and distance is None:
            raise ConfigError("A perceptual_weight above 0 needs a distance, got none.")
        self.module: nn.Module = vqgan
        self._config, self._distance = config, distance

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        config, volumes = self._config, batch["volume"]
        quantised: Quantised
        output, quantised = module(volumes)
        output = output.float()
        image, reference = self._slices((output, volumes), generator)
        terms = {"l1": (output - volumes).abs().mean()}
        reconstruction = terms["l1"]
        if config.perceptual_weight > 0:
            assert self._distance is not None
            distance = self._distance.to(output.device)
            terms["perceptual"] = distance(image.clamp(-1, 1), reference).mean()
            reconstruction = reconstruction + config.perceptual_weight * terms["perceptual"]
        loss = (
            reconstruction
            + config.codebook_weight * quantised.codebook
            + config.commitment_weight * quantised.commitment
        )
        terms |= {"codebook": quantised.codebook, "commitment": quantised.commitment}
        judged, further = self._judged(module, reconstruction, (output, image), reference)
        logged = {name: term.detach() for name, term in (terms | further).items()}
        logged["mse"] = (output.detach() - volumes).square().mean()
        return loss + judged, logged | codebook_usage(quantised.codes, config.codes)

    def _judged(
        self,
        module: nn.Module,  # noqa: ARG002
        reconstruction: torch.Tensor,  # noqa: ARG002
        generated: tuple[torch.Tensor, torch.Tensor],  # noqa: ARG002
        reference: torch.Tensor,  # noqa: ARG002
    ) -> tuple[torch.Tensor | float, dict[str, torch.Tensor]]:
        """A further weighted term of the loss, and the values to log."""
        return 0.0, {}

    def _slices(self, volumes: tuple[torch.Tensor, ...], generator: torch.Generator) -> list[torch.Tensor]:
        """The same axial slices (N, 1, H, W) of each of ``volumes`` (B, 1, D, H, W)."""
        cases, _, depth = volumes[0].shape[:3]
        drawn = cases * min(self._config.perceptual_slices, depth)
        chosen = torch.randperm(cases * depth, generator=generator, device=generator.device)[:drawn]
        return [volumes_to_slices(v)[chosen.to(v.device)] for v in volumes]


class AdversarialVQGANStage(VQGANStage):
    """With the adversarial term: a TwoPlayerStage.

    Also logs "adversarial", the term, and "adversarial_scale", its factor.

    Args:
        vqgan, config, distance: as in VQGANStage.
        opponent: critics of crops and slices.
        opponent_rate: their learning rate.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        config: VQGANConfig,
        distance: nn.Module | None,
        opponent: Critics,
        opponent_rate: float = 1e-4,
    ) -> None:
        super().__init__(vqgan, config, distance)
        self.opponent: nn.Module = opponent
        self._critics = opponent
        self.opponent_rate = opponent_rate

    def _judged(
        self,
        module: nn.Module,
        reconstruction: torch.Tensor,
        generated: tuple[torch.Tensor, torch.Tensor],
        reference: torch.Tensor,
    ) -> tuple[torch.Tensor | float, dict[str, torch.Tensor]]:
        """See VQGANStage."""
        self._generated = generated[0].detach(), generated[1].detach()
        self._reference = reference
        term = hinge_realism(self._critics.to(reference.device), *generated)
        scale = torch.zeros_like(term)
        if int(self._critics.steps) >= self._config.adversarial_start:
            scale = scale + self._config.adversarial_weight
            if self._config.adaptive:
                unwrapped: Any = getattr(module, "module", module)
                scale = scale * adaptive_weight(reconstruction, term, unwrapped.last_layer)
        return scale * term, {"adversarial": term, "adversarial_scale": scale}

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """See TwoPlayerStage."""
        self._critics.steps += 1
        return hinge_loss(opponent, (batch["volume"], self._reference), self._generated)


@torch.no_grad()
def measured_codebook(vqgan: VQGAN, volumes: Iterable[torch.Tensor]) -> dict[str, float]:
    """Usage of the codebook, and quality of the reconstruction, over many volumes.

    Args:
        vqgan: in evaluation mode.
        volumes: each (1, D, H, W) in [-1, 1].

    Returns:
        "codes", size of the codebook; "vectors", number of looked-up vectors; "perplexity" and "codes_used"
        over all of them (`codebook_usage`); "psnr", dB for a peak of 2, over all voxels.
    """
    device = vqgan.last_layer.device
    codes, errors = [], []
    for volume in volumes:
        output, quantised = vqgan(volume[None].to(device))
        codes.append(quantised.codes.flatten())
        errors.append((output - volume[None].to(device)).square().mean())
    count = int(vqgan.config["codes"])
    usage = {name: float(value) for name, value in codebook_usage(torch.cat(codes), count).items()}
    psnr = float(10 * torch.log10(4 / torch.stack(errors).mean()))
    return {"codes": count, "vectors": sum(len(part) for part in codes), **usage, "psnr": psnr}
