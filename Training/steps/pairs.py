"""Studies with volume and radiograph, for steps that train a regression of the volume."""

from pathlib import Path

from xray2ctpa_core.data.latent_cases import read_latent_cases
from xray2ctpa_core.data.splits import training_cases
from xray2ctpa_core.data.study_data import StudyData
from xray2ctpa_core.training.settings.xctdiff import PairSettings


def pairs(config: PairSettings) -> StudyData:
    """Items "volume" (1, D, H, W) in [-1, 1] and "image" (1, P, P) of the training studies."""
    cases = read_latent_cases(Path(config.latents))
    cases = training_cases(cases, config.folds, config.fold, config.fold_seed)
    radiographs = Path(config.radiographs) if config.radiographs else None
    return StudyData(
        cases, ("volume", "image"), window=config.hu_window, radiographs=radiographs, flip=config.flip
    )
