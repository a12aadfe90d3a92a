"""Stage 5: trains the X-ray encoder: the expected latents along each ray, an embedding, PE from the film.

python Training/train_xray_encoder.py --out runs/default/xray-encoder
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.datasets.latents import LatentDataset, read_channel_weights
from xray2ctpa_core.networks.xray_encoder import XrayEncoder
from xray2ctpa_core.training.loop import LoopConfig, save_network, train
from xray2ctpa_core.training.xray_encoder import XrayEncoderStage


@dataclass(frozen=True)
class Config(LoopConfig):
    """latents: folder of stage 4; channels: the encoder's widths; pe_weight: of PE's cross-entropy;
    film_variants: augmented films of each patient."""

    latents: str = "runs/default/latents/train"
    channels: tuple[int, ...] = (24, 48, 96, 128, 160)
    lifted_channels: int = 10
    pe_weight: float = 0.02
    film_variants: int = 6
    steps: int = 700
    weight_decay: float = 3e-2


def run(config: Config, out: Path, resume: bool) -> None:
    """Trains and saves ``out``/xray_encoder."""
    data = LatentDataset(Path(config.latents), Path(config.latents), variants=config.film_variants)
    latents = data[(0, 0)]["latents"]
    encoder = XrayEncoder(config.channels, tuple(latents.shape[1:]), config.lifted_channels)
    stage = XrayEncoderStage(encoder, config.pe_weight, read_channel_weights(Path(config.latents)))
    train(stage, data, config, out, resume, Bar("X-ray encoder"))
    save_network(encoder, out / "xray_encoder")


if __name__ == "__main__":
    sys.exit(
        run_stage(
            __doc__,
            Config,
            run,
            {"steps": 2, "batch_size": 2, "channels": [8, 8, 8, 8]},
        )
    )
