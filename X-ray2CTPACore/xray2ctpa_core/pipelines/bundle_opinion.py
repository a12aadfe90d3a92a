"""The second opinion of a bundle: of the prior in it, or of its radiograph encoder."""

from pathlib import Path

from torch import nn

from xray2ctpa_core import config
from xray2ctpa_core.errors import BundleError, InputError
from xray2ctpa_core.models.framing.style_transfer import StyleTransfer
from xray2ctpa_core.pipelines.bundle import BundleInfo
from xray2ctpa_core.pipelines.parts import STYLE
from xray2ctpa_core.pipelines.second_opinion import (
    HEAD_CALIBRATION,
    RESTS_ON_HEAD,
    HeadReader,
    OpinionReader,
    OpinionSettings,
)

#: Folder of a bundle that holds a prior's opinion (pipelines.prior_opinion).
SECOND_OPINION_FOLDER = "second_opinion"


def carried_opinion(folder: Path) -> OpinionReader | None:
    """The opinion of the prior in the bundle ``folder``; None if it has no prior. Errors as
    `bundle_opinion`."""
    place = Path(folder) / SECOND_OPINION_FOLDER
    if not place.is_dir():
        return None
    # Imported here because most bundles have no prior and start faster without its networks.
    from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion

    return load_prior_opinion(place)


def save_carried_opinion(folder: Path, reader: OpinionReader) -> None:
    """Writes a prior's opinion into the bundle in ``folder``."""
    from xray2ctpa_core.pipelines.prior_opinion import PriorReader, save_prior_opinion

    network = reader.network
    if not isinstance(network, PriorReader):
        raise InputError(f"Expected the opinion of a prior, got that of a {type(network).__name__}.")
    save_prior_opinion(
        Path(folder) / SECOND_OPINION_FOLDER, network.student, network.readout, reader.settings
    )


def bundle_opinion(folder: Path, info: BundleInfo, encoder: nn.Module) -> OpinionReader:
    """The second opinion of a bundle: of its prior if it has one, else of the linear layer on its radiograph
    encoder, which is uncalibrated unless the bundle's metrics have HEAD_CALIBRATION.

    Args:
        folder: of the bundle, verified.
        info: of the bundle.
        encoder: its radiograph encoder.

    Raises:
        BundleError: a damaged prior; neither a prior nor a radiograph encoder with a linear layer for PE.
        ConfigError: a damaged calibration.
    """
    carried = carried_opinion(folder)
    if carried is not None:
        return carried
    if not HeadReader.fits(encoder):
        raise BundleError(
            f"Expected a bundle that scores radiographs: one with a prior, or whose radiograph encoder has a "
            f"PE score. {folder} has no prior, and its {type(encoder).__name__} has none.",
            "Score its volumes by `xray2ctpa generate`, or add a prior (docs/experiments/cmkd.md).",
        )
    stored = {"pixels": info.cxr.frame_pixels, **info.metrics.get(HEAD_CALIBRATION, {})}
    settings = config.from_mapping(OpinionSettings, stored)
    style = StyleTransfer.from_pretrained(folder / STYLE).eval() if (folder / STYLE).is_dir() else None
    return OpinionReader(HeadReader(encoder).eval(), settings, RESTS_ON_HEAD, style)
