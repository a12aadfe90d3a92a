"""Trains a denoiser on latents, conditioned on an embedding and lifted features."""

from pathlib import Path

import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.latents import read_channel_weights, standardised
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.pipelines.loading import part_class
from xray2ctpa_core.training.loop import save_network, train
from xray2ctpa_core.training.settings.denoisers import SpatialDenoiserSettings
from xray2ctpa_core.training.stages.denoiser import DenoiserStage, channel_weights


def run(config: SpatialDenoiserSettings, out: Path) -> None:
    """Trains and saves ``out``/denoiser and ``out``/scheduler."""
    encoder = XrayEncoder.from_pretrained(config.xray_encoder, use_safetensors=True)
    data = study_data(Path(config.latents), encoder)
    scheduler = DDPMScheduler(
        beta_schedule=config.beta_schedule,
        prediction_type="v_prediction",
        clip_sample=False,
    )
    latent_channels = data[(0, 0)]["latents"].shape[0]
    made = part_class(config.network)
    if config.conditioning == "global":
        denoiser = made(
            latent_channels, 0, encoder.config["embedding_dim"], config.channels, config.condition_dim
        )
    else:
        open_latents, open_map = open_std(encoder, data)
        denoiser = made(
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
    train(stage, data, config, out, Bar(f"denoiser ({config.conditioning})"))
    save_network(denoiser, out / "denoiser")
    save_network(scheduler, out / "scheduler")


def study_data(latents: Path, encoder: XrayEncoder) -> StudyData:
    """The training studies with the parts that a denoiser with this encoder needs."""
    parts = ("latents", "image", *(["map"] if encoder.atlas is not None else []))
    cases = training_cases(read_latent_cases(latents), 0, 0, 1)
    return StudyData(cases, parts, standardised(latents), augmented=True)


@torch.no_grad()
def open_std(encoder: XrayEncoder, data: StudyData) -> tuple[tuple[float, ...], tuple[float, ...] | None]:
    """Residual standard deviations given the radiograph, over 48 training studies: of the latents about
    their expectation (under the true map, if it is known), per channel; and of the map, per axis, None if no
    map is known."""
    latents, maps = [], []
    for case in range(0, len(data), max(1, len(data) // 48)):
        item = data[(case, case)]
        features = encoder(item["image"][None])
        true_map = item["template_map"][None] if encoder.atlas is not None else None
        if true_map is not None and bool(true_map.isnan().any()):
            true_map = None
        expected = encoder.expected_latents(features, true_map)[0]
        latents.append((item["latents"] - expected).square().mean((1, 2, 3)))
        if features.template_map is not None and true_map is not None:
            maps.append((true_map - features.template_map)[0].square().mean((1, 2, 3)))

    def root(squares: list[torch.Tensor]) -> tuple[float, ...]:
        return tuple(torch.stack(squares).mean(0).sqrt().tolist())

    return root(latents), root(maps) if maps else None
