"""Loads a codec from its folder, whose config.json names its kind."""

import json
import os
from pathlib import Path

from diffusers import AutoencoderKL
from diffusers.utils import CONFIG_NAME

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.as_codec import as_codec
from xray2ctpa_core.models.codecs.codec import Codec, SliceCodec
from xray2ctpa_core.models.codecs.vqgan import VQGAN


def load_codec(name: str | os.PathLike[str]) -> Codec:
    """The codec ``name``, in evaluation mode.

    Args:
        name: folder of a VQGAN or an AutoencoderKL.

    Raises:
        ConfigError: no such folder, or its config.json names another class.
    """
    found = Path(name) / CONFIG_NAME
    if not found.is_file():
        raise ConfigError(f"Expected a codec in {name}, got no {CONFIG_NAME} there.", "Name its folder.")
    kind = json.loads(found.read_text(encoding="utf-8")).get("_class_name")
    if kind == VQGAN.__name__:
        return as_codec(VQGAN.from_pretrained(name, use_safetensors=True)).eval()
    if kind != AutoencoderKL.__name__:
        raise ConfigError(
            f"Expected an AutoencoderKL or a VQGAN in {name}, got "
            f"{f'a {kind}' if kind else f'a {CONFIG_NAME} of neither'}.",
            "Name the network's own folder: RUN/autoencoder or RUN/vqgan.",
        )
    return SliceCodec(AutoencoderKL.from_pretrained(name, use_safetensors=True)).eval()
