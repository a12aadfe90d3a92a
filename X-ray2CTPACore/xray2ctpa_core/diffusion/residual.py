"""What is diffused: the latents themselves, or what a radiograph leaves open of them.

The film fixes most of a latent; noise is spent on the rest alone (Mardani et al., CorrDiff, 2023, section 2).
With an atlas the rest has two parts, diffused side by side: where things lie, as a change of the expected map
into the atlas, and how they look, as a change of the latents expected under the changed map. So a sample is
as sharp as the atlas, wherever its noise puts the vessels.
"""

import torch

from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas import resized, to_map_grid
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder, XrayFeatures


def to_diffused(
    denoiser: SpatialDenoiser,
    encoder: XrayEncoder,
    features: XrayFeatures,
    latents: torch.Tensor,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """Standardised latents, and their map into the atlas where there is one -> what is diffused.

    Args:
        denoiser: its configuration says what it diffuses.
        encoder: the networks behind ``features``.
        features: of the radiographs.
        latents: (B, C, D, H, W).
        template_map: (B, 3, *MAP_GRID), for a denoiser with map_std.

    Returns:
        (B, denoiser.diffused_channels, D, H, W).
    """
    if denoiser.config["residual_std"] is None:
        return latents
    if denoiser.config["map_std"] is None:
        return (latents - encoder.expected_latents(features).float()) / _std(
            denoiser, "residual_std", latents
        )
    if template_map is None or features.template_map is None:
        raise ValueError(
            "A denoiser with map_std needs an encoder with an atlas and the cases' maps into it."
        )
    change = resized(template_map - features.template_map, latents.shape[2:])
    rest = latents - encoder.expected_latents(features, template_map).float()
    return torch.cat(
        [rest / _std(denoiser, "residual_std", rest), change / _std(denoiser, "map_std", change)], 1
    )


def to_latents(
    denoiser: SpatialDenoiser,
    encoder: XrayEncoder,
    features: XrayFeatures,
    diffused: torch.Tensor,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """What was diffused (B, diffused_channels, D, H, W) -> standardised latents (B, C, D, H, W).

    ``template_map`` takes the place of the map that was diffused (see `sampled_map`).
    """
    if denoiser.config["residual_std"] is None:
        return diffused
    rest = diffused[:, : denoiser.config["latent_channels"]]
    rest = rest * _std(denoiser, "residual_std", rest)
    if denoiser.config["map_std"] is None:
        return encoder.expected_latents(features).float() + rest
    if template_map is None:
        template_map = sampled_map(denoiser, features, diffused)
    return encoder.expected_latents(features, template_map).float() + rest


def sampled_map(
    denoiser: SpatialDenoiser, features: XrayFeatures, diffused: torch.Tensor, spread: float = 1.0
) -> torch.Tensor:
    """The map into the atlas (B, 3, *MAP_GRID) that was diffused by a denoiser with map_std.

    ``spread`` multiplies its change of the expected map.
    """
    if features.template_map is None:
        raise ValueError("A denoiser with map_std needs an encoder with an atlas.")
    change = diffused[:, denoiser.config["latent_channels"] :]
    return features.template_map + spread * to_map_grid(change * _std(denoiser, "map_std", change))


def _std(denoiser: SpatialDenoiser, name: str, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(denoiser.config[name]).to(like).reshape(1, -1, 1, 1, 1)
