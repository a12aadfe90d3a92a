"""Stage: the radiograph encoder of a bank of atlases, on patients that are drawn during training."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder

#: Unit of the map's error, in half-widths of the bank (about 10 mm).
_MAP_UNIT = 0.05
#: Grid (D, H, W) on which bent volumes are compared.
_COMPARED = (32, 32, 32)
#: Largest standard deviations of the noise added to radiographs: white, and smooth over a quarter of a frame.
_WHITE, _SMOOTH = 0.03, 0.08


class BankEncoderStage:
    """Loss of map, bent volume, findings, tissue, signs and PE.

    The target of the tissue is the person whose bent volume is nearest, without the patient's own template:
    the bank holds no template of a new patient.

    Args:
        encoder: the module; its bank, maps and linear read-out are set.
        image_weight, tissue_weight, sign_weight: weights of the other terms; the map's error has 1.
    """

    def __init__(
        self,
        encoder: BankEncoder,
        image_weight: float = 10.0,
        tissue_weight: float = 0.1,
        sign_weight: float = 0.1,
    ) -> None:
        self.module: nn.Module = encoder
        self._encoder = encoder
        self._weights = image_weight, tissue_weight, sign_weight

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        encoder = self._encoder
        features = module(noisy_radiographs(batch["image"], generator))
        true_map, person = batch["template_map"].float(), batch["person"]
        volume = functional.interpolate(
            batch["volume"].float(), size=_COMPARED, mode="trilinear", align_corners=True
        )
        bent = encoder.bank(features.template_map, person, _COMPARED)
        with torch.no_grad():
            truly_bent = encoder.bank(true_map, person, encoder.config["grid"])
            nearest = self._nearest(true_map, person, volume)
        found = truly_bent + encoder.findings_in(features, truly_bent)
        terms = {
            "map": ((features.template_map - true_map) / _MAP_UNIT).square().mean(),
            "volume": (bent - volume).square().mean(),
            "findings": (found - batch["volume"]).square().mean(),
            "tissue": -(nearest * features.tissue.log_softmax(1)).sum(1).mean(),
            "signs": functional.binary_cross_entropy_with_logits(features.signs.float(), batch["signs"]),
            "pe": functional.binary_cross_entropy_with_logits(features.pe_logit.float(), batch["pe"]),
        }
        image, tissue, sign = self._weights
        loss = (
            terms["map"]
            + image * (terms["volume"] + terms["findings"])
            + tissue * terms["tissue"]
            + sign * (terms["signs"] + terms["pe"])
        )
        return loss, {name: term.detach() for name, term in terms.items()}

    def _nearest(self, true_map: torch.Tensor, person: torch.Tensor, volume: torch.Tensor) -> torch.Tensor:
        """(B, K): probabilities of the bank's people by the fit of their tissue; 0 for the patient's own."""
        people = len(self._encoder.bank.intensities)
        if people == 1:
            return torch.ones(len(person), 1, device=person.device)
        errors = []
        for number in range(people):
            other = self._encoder.bank(true_map, torch.full_like(person, number), _COMPARED)
            errors.append((other - volume).square().flatten(1).mean(1))
        decibel = -10 * torch.stack(errors, 1).clamp(min=1e-8).log10()
        own = functional.one_hot(person, people).bool()
        return (2 * decibel).masked_fill(own, -torch.inf).softmax(1)


def noisy_radiographs(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """(B, 1, P, P) with white and smooth noise of random strength."""
    cases, size = len(image), image.shape[-2:]

    def draw(*shape: int, uniform: bool = False) -> torch.Tensor:
        make = torch.rand if uniform else torch.randn
        return make(cases, 1, *shape, generator=generator, device=image.device)

    field = functional.interpolate(draw(4, 4), size=size, mode="bicubic")
    return (
        image + _WHITE * draw(1, 1, uniform=True) * draw(*size) + _SMOOTH * draw(1, 1, uniform=True) * field
    )
