"""Which CT and which radiograph of a patient make a pair: stated rules, with a version."""

import re
from dataclasses import dataclass

from xray2ctpa_core.data.open_pairs.series import Series

#: Changes whenever the same index would give other pairs.
RULES_VERSION = "1"
#: Collections with radiographs beside CTs of the chest, all under CC BY.
COLLECTIONS = (
    "covid_19_ny_sbu", "lidc_idri", "covid_19_ar", "acrin_nsclc_fdg_pet", "tcga_blca", "rider_pilot",
    "varepop_apollo", "cmb_crc",
)  # fmt: skip
LICENCES = ("CC BY 3.0", "CC BY 4.0")
#: Every date of this collection is the same: days apart say nothing.
UNDATED_COLLECTIONS = ("lidc_idri",)
#: Study descriptions of an examination of the pulmonary arteries.
ANGIOGRAPHY = re.compile(
    r"pulmonary angio|ctpa|chest angio|angio chest|angio.*with_chest|pe protocol|\bct pe\b", re.IGNORECASE
)
#: Studies of other regions, unless they name the chest, too.
_OTHER_REGION = re.compile(r"abd|pel|head|brain|spin|lumb|neck|knee|extrem|biopsy|pyelogram", re.IGNORECASE)
_CHEST = re.compile(r"chest|thor|lung|pulm|\bcap\b|ctpa", re.IGNORECASE)
#: Series that are no stack of axial slices.
_NO_STACK = re.compile(
    r"scout|locator|localizer|topogram|smart ?prep|monitor|bolus|processed|dose|\bcor\b|coronal|\bsag|mip|mpr"
    r"|reform|3d|vrt",
    re.IGNORECASE,
)
#: Reconstructions with a sharp kernel.
_SHARP = re.compile(r"lung|bone|sharp|\bb[6-9]\d", re.IGNORECASE)
_LATERAL = re.compile(r"\blat|lateral|decub|oblique", re.IGNORECASE)
_FRONTAL = re.compile(r"\bpa\b|\bap\b", re.IGNORECASE)
_NO_CHEST_PART = re.compile(r"abd|kidney|pel|extrem|spine|knee|hand|foot|neck", re.IGNORECASE)


@dataclass(frozen=True)
class Rules:
    """What a pair must satisfy.

    Attributes:
        collections, licences: that are allowed.
        days: at most between the two examinations.
        angiography: whether the CT must be a pulmonary angiography by its study's description.
        least_images: of a CT series.
        most_images: of a CT series; more are several phases, or slices finer than a millimetre.
    """

    collections: tuple[str, ...] = COLLECTIONS
    licences: tuple[str, ...] = LICENCES
    days: int = 1
    angiography: bool = False
    least_images: int = 40
    most_images: int = 700


def is_ct(series: Series, rules: Rules) -> bool:
    """Whether it is a CT of enough images under an allowed licence: what the cohort is counted by."""
    return (
        series.modality == "CT"
        and series.images >= rules.least_images
        and series.licence in rules.licences
        and series.collection in rules.collections
    )


def is_radiograph(series: Series, rules: Rules) -> bool:
    """Whether it is a radiograph under an allowed licence: what the cohort is counted by."""
    return (
        series.modality in ("CR", "DX")
        and series.licence in rules.licences
        and series.collection in rules.collections
    )


def is_angiography(series: Series) -> bool:
    """Whether its study is a CT pulmonary angiography by its description."""
    return bool(ANGIOGRAPHY.search(series.study_description))


def is_axial_chest(series: Series, rules: Rules) -> bool:
    """Whether a CT series is, by its words and number of images, a stack of axial slices of the chest."""
    words = f"{series.study_description} {series.description}"
    elsewhere = _OTHER_REGION.search(words) and not _CHEST.search(words)
    region = _OTHER_REGION.search(series.description) and not _CHEST.search(series.description)
    return (
        is_ct(series, rules)
        and series.images <= rules.most_images
        and not _NO_STACK.search(series.description)
        and not elsewhere
        and not region
    )


def ct_preference(series: Series) -> tuple[bool, int, str]:
    """Sorts CT series of one study, the best first: a soft kernel before a sharp one, then the thinnest
    slices (the most images), then the UID."""
    return bool(_SHARP.search(series.description)), -series.images, series.uid


def is_frontal_chest(series: Series, rules: Rules) -> bool:
    """Whether a radiograph is, by its words, a frontal one of the chest. "PA & LATERAL" may be either: the
    gate tells them apart when they are fetched."""
    lateral = _LATERAL.search(series.description) and not _FRONTAL.search(series.description)
    elsewhere = _NO_CHEST_PART.search(series.body_part) or (
        _OTHER_REGION.search(series.study_description) and not _CHEST.search(series.study_description)
    )
    return is_radiograph(series, rules) and not lateral and not elsewhere


def days_apart(first: Series, second: Series) -> int | None:
    """Days from the second examination to the first; None where either has no date."""
    if first.date is None or second.date is None:
        return None
    return (first.date - second.date).days
