"""Settings of the steps that assemble a bundle from trained networks."""

from xray2ctpa_core.constants import DEFAULT_BUNDLE, PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import Existing, ExistingOrNone, Positive, Share, Weight, Window, settings


@settings
class PackSettings:
    """A bundle of the networks that a recipe trained, for `xray2ctpa generate`, the panel and the page."""

    latents: Existing = ""
    """Folder of the step latents: statistics, and volumes; generated volumes have their mean extent."""
    denoiser: Existing = ""
    """Folder of the step paper-denoiser (which names its encoder), spatial-denoiser, prior-denoiser or
    regressor (which hold it)."""
    autoencoder: ExistingOrNone = ""
    """Folder of the codec; empty takes the one beside the denoiser, or none where it makes voxels."""
    radiographs: Existing = ""
    """Folder of the step radiographs, whose preprocessing the bundle repeats."""
    style: ExistingOrNone = ""
    """Folder to_computed of the step style-transfer, through which the bundle reads every radiograph; empty
    takes the one of the step radiographs, if it has one."""
    xray_encoder: ExistingOrNone = ""
    """Folder of the step xray-encoder's network; only for a spatial denoiser."""
    classifier: ExistingOrNone = ""
    """Folder of a latent classifier's network; empty for results without a PE score."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which the latents' volumes were clipped."""
    framed: bool = False
    """Whether the volumes lie in the radiograph's frame (ctpa.crop=frame, and radiographs of input=frame):
    their size then follows from the radiograph, else every result has the volumes' mean extent."""
    name: str = "mine"
    """Name of the bundle."""
    version: str = "1"
    """Its version."""
    licence: str = "yours"
    """Licence of the weights, which follows from that of the data."""
    trained_on: str = "pairs of radiograph and CT"
    """Description of the training data, which results repeat."""
    scheduler: str = "ddpm"
    """Default sampler."""
    steps: Positive = 25
    """Default number of its steps."""
    temperature: Share = 1.0
    """Factor of the latents' initial noise; below 1 samples lie nearer to their mean."""
    largest_latent: Weight = 0.0
    """Bound to which each step clips clean estimates; 0 for none, 1 for X-ray2CTPA's min-max latents."""


@settings
class StyledSettings:
    """Another bundle, which reads every radiograph through a style transfer."""

    bundle: str = DEFAULT_BUNDLE
    """Name, folder or Hub id of the bundle."""
    name: str = ""
    """Name of the new one; empty adds -styled to that of the bundle."""
    style: Existing = ""
    """Folder to_computed of the step style-transfer."""
