"""Definition of all reported numbers of a volume: heading, whether higher is better, digits."""

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class Column:
    """One number of a row.

    Attributes:
        heading: of tables.
        higher_is_better: None if neither direction is better.
        digits: after the point.
        limits: of values and of the ends of a mean's interval.
    """

    heading: str
    higher_is_better: bool | None
    digits: int = 3
    limits: tuple[float, float] = (-inf, inf)

    @property
    def signed_heading(self) -> str:
        """The heading of a difference."""
        if self.higher_is_better is None:
            return self.heading
        return f"{self.heading} ({'higher' if self.higher_is_better else 'lower'} is better)"


SHARE, CORRELATION, DISTANCE = (0.0, 1.0), (-1.0, 1.0), (0.0, inf)
#: Numbers of one volume compared with the patient's own (evaluation.volumes), and of several samples of a
#: patient.
VOLUME_COLUMNS = {
    "psnr": Column("PSNR dB", True, 2),
    "psnr_paper": Column("PSNR dB, -100..900 HU", True, 2),
    "ssim": Column("SSIM 3D", True, limits=CORRELATION),
    "slice_ssim": Column("SSIM, mean slice", True, limits=CORRELATION),
    "mae": Column("MAE HU", False, 0, limits=DISTANCE),
    "perceptual": Column("EfficientNet-Lite0 perceptual distance", False, limits=DISTANCE),
    "lpips": Column("LPIPS (AlexNet)", False, limits=DISTANCE),
    "lung_dice": Column("lung Dice, frontal", True, limits=SHARE),
    "heart_dice": Column("heart Dice, frontal", True, limits=SHARE),
    "lung_dice_3d": Column("lung Dice, 3D", True, limits=SHARE),
    "heart_dice_3d": Column("heart Dice, 3D", True, limits=SHARE),
    "chamber_hu": Column("median HU in the patient's chambers", None, 0),
    "chamber_error": Column("its distance from the patient's own, HU", False, 0, limits=DISTANCE),
    "projection": Column("frontal projection, correlation", True, limits=CORRELATION),
    "parallel_correlation": Column(
        "correlation with the radiograph, parallel rays", None, limits=CORRELATION
    ),
    "perspective_correlation": Column(
        "correlation with the radiograph, perspective", None, limits=CORRELATION
    ),
    "spread": Column("spread of the samples, HU", None, 0, limits=DISTANCE),
    "spread_over_error": Column("spread over error", None, 2, limits=DISTANCE),
    "spread_tracks_error": Column("correlation of spread and error", True, 2, limits=CORRELATION),
}
#: Columns that are shown for virtual patients, and for people.
PATIENT_COLUMNS = tuple(
    name
    for name in VOLUME_COLUMNS
    if name not in ("lung_dice_3d", "heart_dice_3d", "chamber_hu", "chamber_error", "projection")
)
PEOPLE_COLUMNS = (
    "psnr",
    "ssim",
    "perceptual",
    "lpips",
    "lung_dice_3d",
    "heart_dice_3d",
    "chamber_hu",
    "chamber_error",
    "parallel_correlation",
    "perspective_correlation",
    "spread",
    "spread_over_error",
    "spread_tracks_error",
)
#: Distances between two sets of volumes -> the features of a row in which they are computed.
SET_FEATURES = {
    "fvd": ("features_fvd",),
    "fid": ("features_fid",),
    "axial": ("features_axial",),
    "coronal": ("features_coronal",),
    "sagittal": ("features_sagittal",),
    "planes": ("features_axial", "features_coronal", "features_sagittal"),
}
#: Keys of SET_FEATURES that are computed in slices of three directions.
PLANES = ("axial", "coronal", "sagittal")
