"""The diffused variables: the latents themselves, or their residual given the radiograph.

The radiograph determines most of the latents; only the residual is diffused (Mardani et al., CorrDiff, 2023,
section 2). With an atlas it has two parts, diffused together: the position of structures, as a change of the
expected map into the atlas, and their appearance, as a change of the latents expected under the changed map.
A sample is therefore as sharp as the atlas, at whatever position the vessels are drawn.

The denoiser's configuration determines the diffused variables by ``residual_std`` and ``map_std``
(models.denoisers.spatial), with a bank by ``components`` (models.denoisers.bank); without them it diffuses
the latents.
"""

from typing import Any

import torch

from xray2ctpa_core.diffusion.bent import bent_map, person_of
from xray2ctpa_core.models.encoders.atlas import resized, to_map_grid
from xray2ctpa_core.models.encoders.bank_encoder import BankConditioning
from xray2ctpa_core.models.encoders.xray_encoder import XrayConditioning
from xray2ctpa_core.models.on_device import along_channels
from xray2ctpa_core.models.protocols import Conditioning


def to_diffused(
    denoiser: Any,
    conditioning: Conditioning,
    latents: torch.Tensor,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """Scaled latents, and their map into the atlas where there is one -> the diffused variables.

    Args:
        denoiser: its configuration determines the diffused variables.
        conditioning: of the radiographs.
        latents: (B, C, D, H, W).
        template_map: (B, 3, *MAP_GRID), for a denoiser with map_std.

    Returns:
        (B, diffused channels, D, H, W).

    Raises:
        ValueError: the map, or a part of the conditioning, that the denoiser needs is missing.
    """
    if _config(denoiser, "residual_std") is None:
        return latents
    if _config(denoiser, "map_std") is None:
        return (latents - _expected(conditioning)) / _std(denoiser, "residual_std", latents)
    expected_map = expected_template_map(conditioning)
    if template_map is None:
        raise ValueError("A denoiser with map_std needs the cases' maps into the atlas, got none.")
    change = resized(template_map - expected_map, latents.shape[2:])
    rest = latents - _under(conditioning, template_map)
    return torch.cat(
        [rest / _std(denoiser, "residual_std", rest), change / _std(denoiser, "map_std", change)], 1
    )


def to_latents(
    denoiser: Any,
    conditioning: Conditioning,
    diffused: torch.Tensor,
    drawn_map: torch.Tensor | None = None,
    template_map: torch.Tensor | None = None,
) -> torch.Tensor:
    """Diffused variables (B, diffused channels, D, H, W) -> scaled latents (B, C, D, H, W).

    Args:
        denoiser, conditioning: those of the samples.
        diffused: the samples.
        drawn_map: theirs, of a denoiser that diffuses one; None: `sampled_map`.
        template_map: the same, corrected; None: as drawn.
    """
    if drawn_map is None and diffuses_a_map(denoiser):
        drawn_map = sampled_map(denoiser, conditioning, diffused)
    template_map = drawn_map if template_map is None else template_map
    if isinstance(conditioning, BankConditioning) and template_map is not None:
        return conditioning.latents(template_map, person_of(denoiser, diffused), drawn_map)
    if _config(denoiser, "residual_std") is None:
        return diffused
    rest = diffused[:, : denoiser.config["latent_channels"]]
    rest = rest * _std(denoiser, "residual_std", rest)
    if template_map is None:
        return _expected(conditioning) + rest
    return _under(conditioning, template_map) + rest


def sampled_map(
    denoiser: Any, conditioning: Conditioning, diffused: torch.Tensor, spread: float = 1.0
) -> torch.Tensor:
    """The map into the atlas (B, 3, *MAP_GRID) of a sample from a denoiser that diffuses one.

    ``spread`` multiplies its difference from the expected map.
    """
    if isinstance(conditioning, BankConditioning):
        return bent_map(denoiser, conditioning, diffused, spread)
    change = diffused[:, denoiser.config["latent_channels"] :]
    expected = expected_template_map(conditioning)
    return expected + spread * to_map_grid(change * _std(denoiser, "map_std", change))


def diffuses_a_map(denoiser: Any) -> bool:
    """Whether ``denoiser`` diffuses a change of the map into an atlas."""
    return any(_config(denoiser, name) is not None for name in ("map_std", "components"))


def expected_template_map(conditioning: Conditioning) -> torch.Tensor:
    """(B, 3, *MAP_GRID): the expected map into the atlas; raises ValueError where the encoder has no
    atlas."""
    expected = conditioning.template_map if isinstance(conditioning, XrayConditioning) else None
    if expected is None:
        raise ValueError("A denoiser with map_std needs an encoder with an atlas.")
    return expected


def _under(conditioning: Conditioning, template_map: torch.Tensor) -> torch.Tensor:
    if not isinstance(conditioning, XrayConditioning):
        raise ValueError("A denoiser with map_std needs an encoder with an atlas.")
    return conditioning.expected_under(template_map)


def _expected(conditioning: Conditioning) -> torch.Tensor:
    if conditioning.expected is None:
        raise ValueError("A denoiser with residual_std needs an encoder that expects latents.")
    return conditioning.expected


def _config(denoiser: Any, name: str) -> Any:
    return denoiser.config.get(name)


def _std(denoiser: Any, name: str, like: torch.Tensor) -> torch.Tensor:
    return along_channels(denoiser.config[name], like)
