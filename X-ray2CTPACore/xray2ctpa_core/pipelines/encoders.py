"""From a configuration's radiograph encoder to the network: a folder here, or the Hub at a pinned
commit."""

from dataclasses import dataclass
from pathlib import Path

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.encoders.published import PublishedEncoder, published_encoder
from xray2ctpa_core.pipelines.loading import find_folder

#: Where an encoder's weights are published, and the files that are read. RadImageNet names no commit here:
#: its
#: file has to be got by hand, or its Hub copy be named with the commit that you trust.
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
        name: of networks.radiograph_encoder.ENCODERS.
        weights: a folder, or "owner/name@commit" of the Hub, which is looked for in the folders of
            XRAY2CTPA_BUNDLES first; "" takes the published ones at the commit pinned here.

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


@dataclass(frozen=True)
class EncoderConfig:
    """The encoder of a classifier; a stage's configuration extends it.

    Attributes:
        encoder, encoder_weights: as `load_published_encoder` takes them; the small one starts from nothing
            where no weights are given.
        small_dim, small_features, small_growth, small_blocks: of the small one (`small_trunk`).
        frozen_encoder: whether it stays as it is.
    """

    encoder: str = "small"
    encoder_weights: str = ""
    small_dim: int = 512
    small_features: int = 16
    small_growth: int = 12
    small_blocks: tuple[int, ...] = (3, 3, 3, 3)
    frozen_encoder: bool = False


def make_encoder(config: EncoderConfig) -> PublishedEncoder:
    """The encoder that ``config`` asks for; errors as `load_published_encoder`."""
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
