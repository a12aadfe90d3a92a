"""Settings of the step that makes a bundle of what the steps before trained."""

from xray2ctpa_core.constants import PAPER_HU_WINDOW
from xray2ctpa_core.data.settings import Existing, ExistingOrNone, Positive, Share, Weight, Window, settings


@settings
class PackSettings:
    """A bundle that generate, the panel and the page run, of the networks that a recipe trained."""

    latents: Existing = ""
    """Folder of the step latents: statistics, and the volumes whose mean extent every result is given."""
    denoiser: Existing = ""
    """Folder of the step paper-denoiser (which names its encoder), spatial-denoiser, prior-denoiser or
    regressor (which hold it)."""
    autoencoder: ExistingOrNone = ""
    """Folder of the codec; empty takes the one beside the denoiser, or none where it makes voxels."""
    radiographs: Existing = ""
    """Folder of the step radiographs: how a radiograph becomes what the encoder reads."""
    xray_encoder: ExistingOrNone = ""
    """Folder of the step xray-encoder's network; of a spatial denoiser alone."""
    classifier: ExistingOrNone = ""
    """Folder of a latent classifier's network; without one results have no PE score."""
    hu_window: Window = PAPER_HU_WINDOW
    """HU window to which the latents' volumes were clipped."""
    framed: bool = False
    """Whether the volumes lie in the radiograph's frame (ctpa.crop=frame): their size then follows from the
    radiograph, else every result has the volumes' mean extent."""
    name: str = "mine"
    """Name of the bundle."""
    version: str = "1"
    """Its version."""
    licence: str = "yours"
    """Licence of the weights, which follows from that of the data."""
    trained_on: str = "pairs of radiograph and CT"
    """What taught the networks, in words that results repeat."""
    scheduler: str = "ddpm"
    """Sampler that results are made with where nobody says otherwise."""
    steps: Positive = 25
    """Its steps."""
    temperature: Share = 1.0
    """Factor of the latents' initial noise; below 1 samples lie nearer to their mean."""
    largest_latent: Weight = 0.0
    """Clean estimates are cut off there in each step; 0 for nowhere. Min-max latents of the papers: 1."""
