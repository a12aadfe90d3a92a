"""The whole published X-ray2CTPA system at tiny size, in the files of its trainer, with random weights."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL

from xray2ctpa_core.benchmark.released_reference import random_weights
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.encoders.published import PublishedEncoder
from xray2ctpa_core.pipelines.convert import RELEASED_CLASSIFIER, released_classifier_name

#: Of the U-Net: the paper's, and two others that the published constructor allows.
CONFIGURATIONS: tuple[dict[str, Any], ...] = (
    {},
    {"width": 16, "multipliers": (1, 2, 4), "heads": 4, "embedding": 24},
    {"width": 24, "multipliers": (1, 3), "latent_channels": 3, "heads": 2, "embedding": 512},
)


def trainer_checkpoint(folder: Path, **configuration: Any) -> Path:
    """A trainer's file with a U-Net of ``configuration`` and a latent classifier."""
    torch.manual_seed(1)
    unet = random_weights(seed=5, **configuration)
    channels = configuration.get("latent_channels", 4)
    classifier = PEClassifier(latent_channels=channels, **RELEASED_CLASSIFIER).state_dict()
    name = released_classifier_name("classifier.")
    tensors = {f"denoise_fn.{key}": value for key, value in unet.items()}
    tensors |= {name(key): value for key, value in classifier.items()}
    torch.save({"step": 7, "ema": tensors, "scaler": {"scale": 1.0}}, folder / "model-9.pt")
    return folder / "model-9.pt"


def stable_diffusion_codec(folder: Path, latent_channels: int = 4) -> Path:
    """An AutoencoderKL that reads three channels and halves a slice once."""
    torch.manual_seed(2)
    AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=latent_channels,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(folder / "codec", safe_serialization=True)
    return folder / "codec"


def radiograph_encoder(folder: Path, embedding_dim: int = 24) -> Path:
    """A small encoder of whole radiographs, as our stages save it."""
    torch.manual_seed(3)
    PublishedEncoder("small", None, embedding_dim).save_pretrained(
        folder / "encoder", safe_serialization=True
    )
    return folder / "encoder"


def converted_bundle(folder: Path, **configuration: Any) -> Path:
    """What `xray2ctpa convert x-ray2ctpa` makes of the system with a U-Net of ``configuration``."""
    from xray2ctpa_core.cli.main import main

    folder.mkdir(parents=True, exist_ok=True)
    codec = stable_diffusion_codec(folder, configuration.get("latent_channels", 4))
    encoder = radiograph_encoder(folder, configuration.get("embedding", 512))
    made = folder / "converted"
    words = ["convert", "x-ray2ctpa", str(trainer_checkpoint(folder, **configuration)), str(made)]
    words += ["--codec", str(codec), "--encoder", str(encoder), "--latent-grid", "16", "32", "32"]
    if main(words):
        raise RuntimeError("the conversion failed, see above")
    return made


def three_radiographs(real_data: Path) -> list[Path]:
    """Three real radiographs: a DICOM file and two images."""
    cxr = real_data / "cxr"
    return [*sorted((cxr / "dicom").glob("*.dcm"))[:1], *sorted((cxr / "nih").glob("*.jpg"))[:2]]


def converted_bundles(folder: Path) -> dict[str, Path]:
    """A converted bundle, and the same without its PE classifier."""
    from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline

    made, without = converted_bundle(folder, **CONFIGURATIONS[1]), folder / "without-classifier"
    pipeline = XRay2CTPAPipeline.from_folder(made)
    pipeline.register_modules(pe_classifier=None)
    pipeline.save_pretrained(without)
    return {"whole": made, "without classifier": without}
