"""People of ellipsoids, on which virtual patients are drawn in tests."""

import numpy as np
import torch

from xray2ctpa_core.simulation import labels
from xray2ctpa_core.simulation.people.person import Person
from xray2ctpa_core.simulation.people.population import Population, load_population
from xray2ctpa_core.simulation.people.space import NODES, lattice

#: Voxels (D, H, W) of 2 mm.
SHAPE = (140, 110, 150)


def ellipsoid(centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> np.ndarray:
    """(D, H, W) bool about the grid's middle."""
    axes = [2.0 * (np.arange(n) - (n - 1) / 2) for n in SHAPE]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    parts = ((v - c) / r for v, c, r in zip((z, y, x), centre_mm, radii_mm, strict=True))
    return sum(part**2 for part in parts) <= 1


def phantom(name: str, enhanced: bool = True, stretch: float = 1.0) -> Person:
    """A body with two lungs, a heart and an artery in each lung; a heart of 250 HU where ``enhanced``.

    ``stretch`` makes it taller; its displacement from the reference then says so.
    """
    hu = np.full(SHAPE, -1000.0, np.float32)
    organs = np.zeros(SHAPE, np.uint8)

    def lay(place: np.ndarray, value: float, organ: int) -> None:
        hu[place], organs[place] = value, organ

    lay(ellipsoid((0, 0, 0), (400, 95, 135)), 40.0, labels.BODY)
    lay(ellipsoid((0, 70, 0), (400, 12, 12)), 500.0, labels.BONES)
    for side, lobe in ((-1, labels.RIGHT_LOWER_LOBE), (1, labels.LEFT_LOWER_LOBE)):
        lay(ellipsoid((0, 0, 65 * side), (110 * stretch, 75, 50)), -850.0, lobe)
        lay(ellipsoid((0, 0, 55 * side), (60, 5, 5)), 300.0 if enhanced else 40.0, labels.PULMONARY_ARTERIES)
    lay(ellipsoid((-30, -25, 20), (45, 40, 45)), 250.0 if enhanced else 40.0, labels.HEART)
    contrast = np.isin(organs, (labels.HEART, labels.PULMONARY_ARTERIES)) & enhanced
    displacement = torch.zeros(3, NODES, NODES, NODES)
    displacement[0] = (stretch - 1) * lattice()[0]
    middle = (np.array(SHAPE) - 1) / 2
    return Person(name, enhanced, hu, organs, contrast, middle, displacement.numpy())


def phantoms() -> Population:
    """Two people on the CPU, one of them without contrast medium, at 4 mm."""
    return load_population([phantom("a"), phantom("b", enhanced=False, stretch=1.1)], "cpu", 4.0)
