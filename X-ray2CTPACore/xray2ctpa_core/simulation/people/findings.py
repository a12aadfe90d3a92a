"""What a batch of virtual patients has: contrast timing, embolism and its signs, drawn at published rates."""

from dataclasses import dataclass, replace

import torch
from torch.nn import functional

from xray2ctpa_core.simulation.embolism import CLOT_HU
from xray2ctpa_core.simulation.opacities import OPACITIES, OPACITY_HU, filled
from xray2ctpa_core.simulation.signs import PREVALENCE, SIGNS

#: Order of `Findings.shown`.
SHOWN = tuple(sign.name for sign in SIGNS)
#: Of these, the signs that volume and radiograph really have; the others are drawn by nothing here.
DRAWN = ("opacity", "effusion", "oedema", "cardiomegaly")


@dataclass(frozen=True)
class Findings:
    """Findings of a batch, each (B,) float32 but ``shown`` (B, S).

    Attributes:
        pe: 1 with clots.
        shown: 1 where a sign is there, in the order SHOWN.
        heart_scale: size of the heart over its usual.
        right, left: enhancement of the pulmonary arteries, and of all else, over the CT's.
        effusion: level of fluid over the lungs' height, for the (right, left) side: (B, 2).
        opacity: strength of a consolidation; oedema: of perihilar haze.
        noise_hu: of the CT.
    """

    pe: torch.Tensor
    shown: torch.Tensor
    heart_scale: torch.Tensor
    right: torch.Tensor
    left: torch.Tensor
    effusion: torch.Tensor
    opacity: torch.Tensor
    oedema: torch.Tensor
    noise_hu: torch.Tensor

    @staticmethod
    def none(batch: int, device: torch.device) -> "Findings":
        """Nothing, and the contrast that the CT has."""
        zero, one = torch.zeros(batch, device=device), torch.ones(batch, device=device)
        return Findings(
            zero, torch.zeros(batch, len(SHOWN), device=device), one, one, one,
            torch.zeros(batch, 2, device=device), zero, zero, zero,
        )  # fmt: skip

    def enhanced(
        self,
        native: torch.Tensor,
        enhancement: torch.Tensor,
        arteries: torch.Tensor,
        generator: torch.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """HU with contrast medium and clots, and the share of clot; all (B, 1, D, H, W)."""
        right, left = (value.view(-1, 1, 1, 1, 1) for value in (self.right, self.left))
        medium = enhancement * (left + (right - left) * arteries.clamp(0, 1))
        if not bool(self.pe.any()):
            return native + medium, torch.zeros_like(native)
        clots = self._clots(arteries, generator)
        low, high = CLOT_HU
        hu = low + (high - low) * torch.rand(
            len(native), 1, 1, 1, 1, generator=generator, device=native.device
        )
        return (native + medium) * (1 - clots) + clots * hu, clots

    def _clots(self, arteries: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Patches of arteries within one to three regions, where there is embolism."""
        batch, size = len(arteries), arteries.shape[2:]
        device = arteries.device
        cells = [max(2, n // 6) for n in size]
        texture = torch.randn(batch, 1, *cells, generator=generator, device=device)
        texture = functional.interpolate(texture, size=size, mode="trilinear", align_corners=True)
        region = functional.interpolate(
            torch.randn(batch, 1, 3, 3, 3, generator=generator, device=device), size=size, mode="trilinear"
        )
        chosen = ((texture > -0.6) & (region > 0.1)).float()
        return arteries.clamp(0, 1) * chosen * self.pe.view(-1, 1, 1, 1, 1)


def draw_findings(batch: int, generator: torch.Generator) -> Findings:
    """Draws PE, its signs independently at their published rates, contrast timing and noise."""
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator, device=device)

    pe = (uniform(0, 1) < PREVALENCE).float()
    rates = torch.tensor([[sign.rate(False), sign.rate(True)] for sign in SIGNS], device=device)
    rate = rates[None, :, 0] + pe[:, None] * (rates[None, :, 1] - rates[None, :, 0])
    shown = (uniform(0, 1, len(SIGNS)) < rate).float()
    sign = {name: shown[:, number] for number, name in enumerate(SHOWN)}
    heart = torch.where(sign["cardiomegaly"] > 0, 1.25, 0.98) * torch.exp(uniform(-0.12, 0.12))
    side = (uniform(0, 1, 2) < torch.tensor([0.65, 0.65], device=device)).float()
    side = torch.where(side.sum(1, keepdim=True) > 0, side, torch.ones_like(side))
    return Findings(
        pe=pe,
        shown=shown,
        heart_scale=heart,
        right=uniform(0.8, 1.5),
        left=uniform(0.5, 1.1),
        effusion=sign["effusion"][:, None] * side * uniform(0.08, 0.4, 2),
        opacity=sign["opacity"] * uniform(0.3, 0.9),
        oedema=sign["oedema"] * uniform(0.1, 0.25),
        noise_hu=uniform(5, 18),
    )


def frequent_findings(batch: int, generator: torch.Generator) -> Findings:
    """`draw_findings`, with fluid, opacities and haze in many patients, for learning to find them."""
    device = generator.device

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator, device=device)

    def chance(probability: float, *shape: int) -> torch.Tensor:
        return (uniform(0, 1, *shape) < probability).float()

    return replace(
        draw_findings(batch, generator),
        effusion=chance(0.3, 2) * uniform(0.05, 0.5, 2),
        opacity=chance(0.55) * uniform(0.3, 1.0),
        oedema=chance(0.3) * uniform(0.1, 1.2),
    )


def opaque_shares(
    lungs: torch.Tensor, findings: Findings, voxel_mm: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """(B, 3, D, H, W): share of fluid, consolidation and haze in each voxel (OPACITIES).

    Args:
        lungs: (B, 1, D, H, W) share of lung, k upwards.
        findings: of the batch.
        voxel_mm: (B, 3).
        generator: draws where consolidations lie.
    """
    if not bool((findings.effusion.sum(1) + findings.opacity + findings.oedema).any()):
        return torch.zeros_like(lungs).expand(-1, len(OPACITIES), -1, -1, -1)
    haze = findings.oedema.view(-1, 1, 1, 1, 1) * _box_mean(1 - lungs, (9, 9, 9))
    patches = _patches(lungs, findings.opacity, generator)
    return lungs * torch.cat([_fluid(lungs, findings, voxel_mm), patches, haze], 1)


def with_opacities(native: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(B, 1, D, H, W) HU with so much fluid, consolidation and haze (B, 3, D, H, W) in place of lung."""
    for share, hu in zip(shares.split(1, 1), OPACITY_HU, strict=True):
        native = filled(native, share, hu)
    return native


def _box_mean(values: torch.Tensor, size: tuple[int, int, int]) -> torch.Tensor:
    """Mean over a box of odd ``size``, one axis after another."""
    for axis, n in enumerate(size):
        if n > 1:
            kernel = tuple(n if other == axis else 1 for other in range(3))
            pad = tuple(k // 2 for k in kernel)
            values = functional.avg_pool3d(values, kernel, 1, pad, count_include_pad=False)
    return values


def _fluid(lungs: torch.Tensor, findings: Findings, voxel_mm: torch.Tensor) -> torch.Tensor:
    """Share of fluid: below a level that climbs along the chest wall (the meniscus), on each side."""
    inside = lungs[:, 0] > 0.5
    depth, _, width = inside.shape[1:]
    columns = torch.arange(width, device=lungs.device)
    near_wall = _box_mean(1 - lungs, (1, 7, 7))[:, 0]
    height = torch.arange(depth, device=lungs.device).view(1, -1, 1, 1) * voxel_mm[:, :1, None, None]
    total = torch.zeros_like(near_wall)
    for number, half in enumerate((columns < width // 2, columns >= width // 2)):
        rows = (inside & half).any(3).any(2)
        first = rows.float().argmax(1)
        last = depth - 1 - rows.flip(1).float().argmax(1)
        base = first.to(voxel_mm) * voxel_mm[:, 0]
        tall = (last - first).to(voxel_mm) * voxel_mm[:, 0]
        level = findings.effusion[:, number] * tall
        line = base.view(-1, 1, 1, 1) + level.view(-1, 1, 1, 1) * (0.6 + 1.6 * near_wall)
        wet = ((line - height) / 6.0).clamp(0, 1) * (level > 0).view(-1, 1, 1, 1)
        total = total + wet * half
    return total[:, None]


def _patches(lungs: torch.Tensor, strength: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Share of consolidation: one or two mottled ellipsoids."""
    device, batch = lungs.device, len(lungs)
    axes = [torch.linspace(-1, 1, n, device=device) for n in lungs.shape[2:]]
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]
    texture = torch.randn(
        batch, *[max(2, n // 5) for n in lungs.shape[2:]], generator=generator, device=device
    )
    texture = functional.interpolate(texture[:, None], size=lungs.shape[2:], mode="trilinear")[:, 0]

    def uniform(low: float, high: float) -> torch.Tensor:
        share = torch.rand(batch, 1, 1, 1, generator=generator, device=device)
        return low + (high - low) * share

    total = torch.zeros_like(texture)
    for number in range(2):
        side = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
        distance = (
            ((z - uniform(-0.6, 0.4)) / uniform(0.12, 0.35)) ** 2
            + ((y - uniform(-0.2, 0.4)) / uniform(0.15, 0.4)) ** 2
            + ((x - side * uniform(0.25, 0.6)) / uniform(0.12, 0.35)) ** 2
        )
        present = 1.0 if number == 0 else (uniform(0, 1) < 0.5).float()
        total = torch.maximum(total, present * torch.sigmoid(3 * (1 - distance + 0.6 * texture)))
    return (strength.view(-1, 1, 1, 1) * total)[:, None]
