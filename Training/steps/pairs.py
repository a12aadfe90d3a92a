"""Studies with volume and radiograph, for steps that train a regression of the volume, and its start."""

from pathlib import Path
from typing import Any

from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.training.settings.xctdiff import PairSettings


def pairs(config: PairSettings) -> StudyData:
    """Items "volume" (1, D, H, W) in [-1, 1] and "image" (1, P, P) of the training studies."""
    cases = read_latent_cases(Path(config.latents))
    cases = training_cases(cases, config.folds, config.fold, config.fold_seed)
    radiographs = Path(config.radiographs) if config.radiographs else None
    return StudyData(
        cases, ("volume", "image"), window=config.hu_window, radiographs=radiographs, flip=config.flip
    )


def begin_with(encoder: Any, start: Path) -> None:
    """Gives ``encoder`` the weights of one of its class in ``start``; raises ConfigError where their shapes
    differ."""
    trained = type(encoder).from_pretrained(start, use_safetensors=True)
    ours, theirs = ({k: tuple(v.shape) for k, v in e.state_dict().items()} for e in (encoder, trained))
    if ours != theirs:
        other = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
        raise ConfigError(
            f"Expected an encoder of the same shape in {start}, got another in {', '.join(other[:3])}.",
            "Train both with the same channels and latents.",
        )
    encoder.load_state_dict(trained.state_dict())
