"""A codec from any network that makes or decodes latents."""

from typing import Any

from diffusers import AutoencoderKL

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.codecs.codec import Codec, SliceCodec
from xray2ctpa_core.models.codecs.tiny_decoder import TinyDecoder


def as_codec(network: Any) -> Codec:
    """``network`` itself, if it is a codec, else the codec that wraps it.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(network, Codec):
        return network
    if isinstance(network, AutoencoderKL | TinyDecoder):
        return SliceCodec(network)
    # Imported here because it imports MONAI, without which most bundles start faster.
    from xray2ctpa_core.models.codecs.volume_codec import VolumeCodec
    from xray2ctpa_core.models.codecs.vqgan import VQGAN

    if isinstance(network, VQGAN):
        return VolumeCodec(network)
    raise ConfigError(
        f"Expected an AutoencoderKL, a TinyDecoder, a VQGAN or a Codec, got a {type(network).__name__}."
    )
