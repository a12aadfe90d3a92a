"""Stage 8: trains the denoiser on latents, conditioned on radiographs.

python Training/train_denoiser.py --out runs/default/denoiser
python Training/train_denoiser.py --out runs/global/denoiser --set conditioning=global
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.data.latents import LatentDataset, read_channel_weights
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.stages.denoiser import DenoiserStage, channel_weights


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents, xray_encoder: of stages 4 and 6; conditioning: spatial or global;
    map_weight: loss weight of the map's channels, where the
    latents' have the mean 1; the rest as in the classes used."""

    latents: str = "runs/default/latents/train"
    xray_encoder: str = "runs/default/xray-encoder/xray_encoder"
    conditioning: str = "spatial"
    channels: tuple[int, ...] = (64, 80)
    condition_dim: int = 128
    feature_noise: float = 0.1
    map_weight: float = 1.0
    beta_schedule: str = "squaredcos_cap_v2"
    steps: int = 800
    batch_size: int = 4
    ema_decay: float = 0.998


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    if config.conditioning not in ("spatial", "global"):
        raise ConfigError(f"conditioning must be spatial or global, got {config.conditioning!r}.")
    data = LatentDataset(Path(config.latents), Path(config.latents), augmented=True)
    encoder = XrayEncoder.from_pretrained(config.xray_encoder)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule,
        prediction_type="v_prediction",
        clip_sample=False,
    )
    latent_channels = data[(0, 0)]["latents"].shape[0]
    if config.conditioning == "global":
        denoiser = SpatialDenoiser(
            latent_channels, 0, encoder.config["embedding_dim"], config.channels, config.condition_dim
        )
    else:
        open_latents, open_map = open_std(encoder, data)
        denoiser = SpatialDenoiser(
            latent_channels,
            encoder.spatial_channels,
            encoder.config["embedding_dim"],
            config.channels,
            config.condition_dim,
            open_latents,
            open_map,
        )
    weights = channel_weights(denoiser, read_channel_weights(Path(config.latents)), config.map_weight)
    stage = DenoiserStage(denoiser, encoder, scheduler, config.feature_noise, weights)
    train(stage, data, config, out, resume, Bar(f"denoiser ({config.conditioning})"))
    save_network(denoiser, out / "denoiser")
    save_network(scheduler, out / "scheduler")


@torch.no_grad()
def open_std(encoder: XrayEncoder, data: LatentDataset) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """What films leave open, over 48 training patients: the standard deviation of the latents about their
    expectation (under the true map, where there is an atlas), per channel, and of the map, per axis."""
    latents, maps = [], []
    for case in range(0, len(data), max(1, len(data) // 48)):
        item = data[(case, case)]
        features = encoder(item["image"][None])
        true_map = item["template_map"][None] if encoder.atlas is not None else None
        expected = encoder.expected_latents(features, true_map)[0]
        latents.append((item["latents"] - expected).square().mean((1, 2, 3)))
        if features.template_map is not None and true_map is not None:
            maps.append((true_map - features.template_map)[0].square().mean((1, 2, 3)))

    def root(squares: list[torch.Tensor]) -> tuple[float, ...]:
        return tuple(torch.stack(squares).mean(0).sqrt().tolist())

    return root(latents), root(maps) if maps else None


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            Config,
            run,
            {"steps": 2, "batch_size": 2, "channels": [16, 16, 16]},
        )
    )
