"""A sheet on which prepared people are checked by eye: slices, organs, twin, and the reference's points."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.person import VOXEL_MM, Person
from xray2ctpa_core.simulation.people.space import displaced, sampled

#: Colours of the organs' outlines (red, green, blue).
_COLOURS = {
    labels.LEFT_UPPER_LOBE: (80, 160, 255),
    labels.LEFT_LOWER_LOBE: (40, 90, 255),
    labels.RIGHT_UPPER_LOBE: (90, 255, 160),
    labels.RIGHT_MIDDLE_LOBE: (200, 255, 60),
    labels.RIGHT_LOWER_LOBE: (30, 190, 90),
    labels.HEART: (255, 140, 0),
    labels.AORTA: (255, 0, 0),
    labels.PULMONARY_ARTERIES: (0, 255, 255),
    labels.PULMONARY_VEINS: (255, 0, 255),
    labels.BONES: (255, 255, 0),
}
#: (lower, upper) HU shown, and half extents (z, y, x) in mm.
_WINDOW_HU = (-900.0, 400.0)
_HALF_MM = (190.0, 150.0, 200.0)


def people_sheet(people: Sequence[Person]) -> np.ndarray:
    """(rows, columns, 3) uint8: a row a person; axial and coronal through the lungs' middle with organs,
    coronal in front of it, the twin without contrast medium, sagittal, and the coronal in the reference's
    space."""
    return np.concatenate([np.concatenate(_row(person), 1) for person in people])


def _row(person: Person) -> list[np.ndarray]:
    hu, native, organs = person.hu, person.native_hu, person.organs
    middle = np.array([0.0, 0.0, 0.0])
    low, front = np.array([-25.0, 0.0, 0.0]), np.array([0.0, -25.0, 0.0])
    planes = [
        _outlined(_grey(_plane(hu, person, 0, low)), _plane(organs, person, 0, low, 0)),
        _outlined(_grey(_plane(hu, person, 1, middle)), _plane(organs, person, 1, middle, 0)),
        _outlined(_grey(_plane(hu, person, 1, front)), _plane(organs, person, 1, front, 0)),
        _grey(_plane(native, person, 1, front)),
        _grey(_plane(native, person, 0, low)),
        _grey(_plane(hu, person, 2, middle)),
        _grey(_in_reference(person)),
    ]
    height = max(len(plane) for plane in planes)
    return [np.pad(plane, ((0, height - len(plane)), (0, 2), (0, 0))) for plane in planes]


def _plane(values: np.ndarray, person: Person, axis: int, at_mm: np.ndarray, order: int = 1) -> np.ndarray:
    """A plane in mm about the lungs' middle, head up."""
    axes = [
        np.arange(-half, half, VOXEL_MM) if other != axis else np.array([at_mm[axis]])
        for other, half in enumerate(_HALF_MM)
    ]
    where = np.stack(np.meshgrid(*axes, indexing="ij")) / VOXEL_MM + person.centre[:, None, None, None]
    plane = ndimage.map_coordinates(values, where, order=order, mode="nearest").squeeze(axis)
    return plane if axis == 0 else plane[::-1]


def _in_reference(person: Person) -> np.ndarray:
    """The coronal plane through the reference's middle, with what this person has there."""
    axes = [torch.arange(-half, half, VOXEL_MM) for half in _HALF_MM]
    axes[1] = torch.zeros(1)
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    there = displaced(points, torch.from_numpy(person.displacement)[None])
    hu = torch.from_numpy(person.hu)[None, None]
    return sampled(hu, there, VOXEL_MM, torch.from_numpy(person.centre))[0, 0, :, 0].numpy()[::-1]


def _grey(hu: np.ndarray) -> np.ndarray:
    lower, upper = _WINDOW_HU
    grey = np.clip((hu - lower) / (upper - lower) * 255, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, -1)


def _outlined(image: np.ndarray, organs: np.ndarray) -> np.ndarray:
    result = image.copy()
    for organ, colour in _COLOURS.items():
        inside = organs == organ
        result[inside & ~ndimage.binary_erosion(inside)] = colour
    return result
