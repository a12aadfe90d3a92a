"""XctDiff's adversarial term (arXiv 2406.04679): 3D and 2D PatchGANs, hinge loss, adaptive weight."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.training.losses.denoising import build_discriminator

#: Esser et al., CVPR 2021, eq. 7: the delta, and the largest weight.
_DELTA, _LARGEST_WEIGHT = 1e-4, 1e4


class Critics(nn.Module):
    """A discriminator of volumes and one of slices, trained as one network.

    Args:
        grid: (D, H, W) of the volumes.
        layers, width: of both (losses.denoising.build_discriminator).

    Attributes:
        steps: batches that they were trained on; saved with the weights, so that a resumed run continues.
    """

    steps: torch.Tensor

    def __init__(self, grid: tuple[int, ...], layers: int = 4, width: int = 64) -> None:
        super().__init__()
        self.volumes = build_discriminator(1, grid, layers, width)
        self.slices = build_discriminator(1, grid[1:], layers, width)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, volumes: torch.Tensor, slices: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, 1, D, H, W) and (N, 1, H, W) -> scores of their patches; above 0 means real."""
        return self.volumes(volumes)[-1].float(), self.slices(slices)[-1].float()


def hinge_realism(critics: Critics, volumes: torch.Tensor, slices: torch.Tensor) -> torch.Tensor:
    """(), the generator's loss: minus the sum of the mean scores of volumes and of slices.

    The gradient reaches ``volumes`` and ``slices`` but not the critics.
    """
    weights = {name: p.detach() for name, p in critics.named_parameters()}
    of_volumes, of_slices = torch.func.functional_call(critics, weights, (volumes, slices))
    return -of_volumes.mean() - of_slices.mean()


def hinge_loss(
    critics: nn.Module, real: tuple[torch.Tensor, torch.Tensor], generated: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """(), the critics' loss (Lim and Ye, 2017): the mean of the hinges of real and generated samples.

    Args:
        critics: `Critics`, wrapped or not.
        real, generated: volumes and slices, equal numbers of real and generated ones, without gradients.
    """
    scores = critics(torch.cat([real[0], generated[0]]), torch.cat([real[1], generated[1]]))
    total = torch.zeros((), device=real[0].device)
    for both in scores:
        for_real, for_generated = both.chunk(2)
        total = (
            total + functional.relu(1 - for_real).mean() / 2 + functional.relu(1 + for_generated).mean() / 2
        )
    return total


def adaptive_weight(
    reconstruction: torch.Tensor, adversarial: torch.Tensor, last_layer: torch.Tensor
) -> torch.Tensor:
    """(): norm of the reconstruction's gradient at the decoder's last layer over that of the adversarial
    term's (Esser et al., CVPR 2021, eq. 7); detached."""
    sizes = [
        torch.autograd.grad(term, last_layer, retain_graph=True)[0].float().norm()
        for term in (reconstruction, adversarial)
    ]
    return (sizes[0] / (sizes[1] + _DELTA)).clamp(max=_LARGEST_WEIGHT).detach()
