"""Loads the radiograph encoder of a configuration from a folder, or from the Hub at a pinned commit."""

from pathlib import Path
from typing import TYPE_CHECKING

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.encoders.published import PublishedEncoder, published_encoder
from xray2ctpa_core.pipelines.loading import find_folder

if TYPE_CHECKING:
    from xray2ctpa_core.training.settings.classifiers import EncoderSettings

#: Repository of an encoder's published weights, and the files that are read. RadImageNet has no pinned
#: commit: its file must be downloaded by hand, or its copy on the Hub be given with a commit that you trust.
PUBLISHED = {
    "biomedclip": (
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224@9f341de24bfb00180f1b847274256e9b65a3a32e",
        ("open_clip_config.json", "open_clip_pytorch_model.bin"),
    ),
    "dinov2": (
        "facebook/dinov2-base@f9e44c814b77203eaa57a6bdbbd535f21ede1415",
        ("config.json", "model.safetensors"),
    ),
    "radimagenet-resnet50": ("", ("ResNet50.pt",)),
    "small": ("", ()),
    "own": ("", ("config.json", "diffusion_pytorch_model.safetensors")),
}


def load_published_encoder(name: str, weights: str = "") -> PublishedEncoder:
    """The radiograph encoder ``name`` with published or own weights, in evaluation mode.

    Args:
        name: of models.encoders.published.ENCODERS.
        weights: a folder, or "owner/name@commit" of the Hub, which is first searched in the folders of
            XRAY2CTPA_BUNDLES; "" takes the published ones at the pinned commit.

    Raises:
        InputError: an unknown name, no weights known for it, or files that are missing.
        BundleError: the Hub cannot be reached, or the weights do not fit.
    """
    if name not in PUBLISHED:
        raise InputError(f"Expected an encoder out of {', '.join(PUBLISHED)}, got {name!r}.")
    where, files = PUBLISHED[name]
    if not (weights or where):
        raise InputError(
            f"The encoder {name} needs its weights, got none.",
            "Set encoder_weights to their folder, or to owner/name@commit on the Hub.",
        )
    if weights and Path(weights).is_file():
        return published_encoder(name, Path(weights))
    return published_encoder(name, find_folder(weights or where, "encoder", list(files) or ["*.safetensors"]))


def make_encoder(config: "EncoderSettings") -> PublishedEncoder:
    """The encoder that ``config`` names; errors as `load_published_encoder`."""
    if config.encoder == "small" and not config.encoder_weights:
        architecture = {
            "init_features": config.small_features,
            "growth_rate": config.small_growth,
            "block_config": config.small_blocks,
        }
        encoder = PublishedEncoder("small", architecture, config.small_dim)
    else:
        encoder = load_published_encoder(config.encoder, config.encoder_weights)
    return encoder.requires_grad_(not config.frozen_encoder)
