"""Stage 7: trains the denoiser on latents, conditioned on radiographs.

python Training/train_denoiser.py --out runs/default/denoiser
python Training/train_denoiser.py --out runs/global/denoiser --set conditioning=global
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.datasets.latents import LatentDataset, read_channel_weights
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.networks.denoiser import SpatialDenoiser
from xray2ctpa_core.networks.xray_encoder import XrayEncoder
from xray2ctpa_core.training.denoiser import DenoiserStage
from xray2ctpa_core.training.loop import LoopConfig, save_network, train


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents, xray_encoder: of stages 4 and 5; conditioning: spatial or global;
    film_variants: augmented films of each patient; the rest as in the classes used."""

    latents: str = "runs/default/latents/train"
    xray_encoder: str = "runs/default/xray-encoder/xray_encoder"
    conditioning: str = "spatial"
    channels: tuple[int, ...] = (64, 96)
    condition_dim: int = 128
    feature_noise: float = 0.1
    beta_schedule: str = "squaredcos_cap_v2"
    film_variants: int = 6
    steps: int = 1200
    batch_size: int = 4
    ema_decay: float = 0.998


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    if config.conditioning not in ("spatial", "global"):
        raise ConfigError(f"conditioning must be spatial or global, got {config.conditioning!r}.")
    data = LatentDataset(Path(config.latents), Path(config.latents), variants=config.film_variants)
    encoder = XrayEncoder.from_pretrained(config.xray_encoder)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule,
        prediction_type="v_prediction",
        clip_sample=False,
    )
    spatial = config.conditioning == "spatial"
    denoiser = SpatialDenoiser(
        latent_channels=data[(0, 0)]["latents"].shape[0],
        spatial_channels=encoder.config["lifted_channels"] if spatial else 0,
        embedding_dim=encoder.config["embedding_dim"],
        channels=config.channels,
        condition_dim=config.condition_dim,
        residual_std=residual_std(encoder, data) if spatial else None,
    )
    weights = read_channel_weights(Path(config.latents))
    if denoiser.config["residual_std"] is not None:
        weights = weights * torch.tensor(denoiser.config["residual_std"]).reshape(weights.shape)
        weights = weights / weights.mean()
    stage = DenoiserStage(denoiser, encoder, scheduler, config.feature_noise, weights)
    train(stage, data, config, out, resume, Bar(f"denoiser ({config.conditioning})"))
    save_network(denoiser, out / "denoiser")
    save_network(scheduler, out / "scheduler")


@torch.no_grad()
def residual_std(encoder: XrayEncoder, data: LatentDataset) -> tuple[float, ...]:
    """Per channel, standard deviation of the latents about their expectation, over 48 training patients."""
    squares = []
    for case in range(0, len(data), max(1, len(data) // 48)):
        item = data[(case, case)]
        expected = encoder(item["image"][None]).lifted[0, : item["latents"].shape[0]]
        squares.append((item["latents"] - expected).square().mean((1, 2, 3)))
    return tuple(torch.stack(squares).mean(0).sqrt().tolist())


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            Config,
            run,
            {"steps": 2, "batch_size": 2, "channels": [16, 16, 16]},
        )
    )
