"""Stage: a regressor of the volume from the radiograph: X2CT-CNN, X2CT-GAN (Ying et al., CVPR 2019), ReconNet
(Shen et al., Nature Biomedical Engineering 2019)."""

import torch
from monai.networks.nets import PatchDiscriminator
from torch import nn

from xray2ctpa_core.models.denoisers.recon_net import ReconNet
from xray2ctpa_core.models.denoisers.x2ct import WEIGHT_STD, X2CT
from xray2ctpa_core.models.encoders.radiograph_itself import RadiographItself, radiograph_of
from xray2ctpa_core.training.losses.denoising import discriminator_loss, realism
from xray2ctpa_core.training.settings.xctdiff import RegressorConfig


def build_regressor(config: RegressorConfig) -> X2CT | ReconNet:
    """The network that ``config`` describes; raises the errors of its class."""
    if config.network == "recon-net":
        return ReconNet(config.pixels, config.pixels, config.width)
    return X2CT(config.pixels, config.width, config.blocks, decoder=config.decoder)


def build_judge(layers: int = 4, width: int = 64) -> nn.Module:
    """X2CT-GAN's discriminator: a 3D PatchGAN of the volume with the radiograph repeated along its depth."""
    judge = PatchDiscriminator(3, width, 2, num_layers_d=layers - 1, norm="INSTANCE")
    for module in judge.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, 0, WEIGHT_STD)
    return judge


class RegressorStage:
    """Squared error of voxels (+ absolute error of projections).

    Batches hold "volume" (B, 1, P, P, P) in [-1, 1] and "image" (B, 1, P, P).

    Args:
        network: trained.
        config: weights.
    """

    def __init__(self, network: nn.Module, config: RegressorConfig) -> None:
        self.module: nn.Module = network
        self._config = config
        self._encoder = RadiographItself()

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage; a regressor draws nothing
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        volumes = batch["volume"]
        conditioning = self._encoder.condition(batch["image"])
        time = torch.zeros(len(volumes), device=volumes.device)
        output = module(volumes, time, conditioning).float()
        generated, real = (output + 1) / 2, (volumes + 1) / 2
        terms = {"voxel": (self._config.voxel_weight, (generated - real).square().mean())}
        if self._config.projection_weight:
            errors = [(generated.mean(axis) - real.mean(axis)).abs().mean() for axis in (2, 3, 4)]
            terms["projection"] = (self._config.projection_weight, torch.stack(errors).mean())
        terms |= self._judged(output, radiograph_of(conditioning))
        loss = torch.stack([weight * term for weight, term in terms.values()]).sum()
        return loss, {name: term.detach() for name, (_, term) in terms.items()}

    def _judged(
        self,
        output: torch.Tensor,  # noqa: ARG002
        radiograph: torch.Tensor,  # noqa: ARG002
    ) -> dict[str, tuple[float, torch.Tensor]]:
        """Further terms of the output, by name, each with its weight."""
        return {}


class AdversarialRegressorStage(RegressorStage):
    """With the adversarial term: a TwoPlayerStage.

    Args:
        network, config: as in RegressorStage.
        opponent: the discriminator, made by build_judge.
        opponent_rate: its learning rate.
    """

    def __init__(
        self, network: nn.Module, config: RegressorConfig, opponent: nn.Module, opponent_rate: float = 2e-4
    ) -> None:
        super().__init__(network, config)
        self.opponent, self.opponent_rate = opponent, opponent_rate

    def _judged(
        self, output: torch.Tensor, radiograph: torch.Tensor
    ) -> dict[str, tuple[float, torch.Tensor]]:
        """See RegressorStage."""
        self._radiograph = radiograph
        self._shown = output.detach()
        term = realism(self.opponent.to(output.device), _with_radiograph(output, radiograph)).mean()
        return {"adversarial": (self._config.adversarial_weight, term)}

    def opponent_loss(self, opponent: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """See TwoPlayerStage."""
        real = _with_radiograph(batch["volume"], self._radiograph)
        return discriminator_loss(opponent, real, _with_radiograph(self._shown, self._radiograph))


def _with_radiograph(volumes: torch.Tensor, radiograph: torch.Tensor) -> torch.Tensor:
    """(B, 1, D, H, W) and (B, 1, D, W) -> (B, 2, D, H, W)."""
    return torch.cat([radiograph.unsqueeze(3).expand_as(volumes), volumes], 1)
