"""Where each point of the reference lies in another person: lungs' boxes matched, then diffeomorphic demons
(Vercauteren et al., NeuroImage 2009) on what CTs of any contrast share."""

import numpy as np
import SimpleITK as sitk
import torch
from scipy import ndimage
from torch.nn import functional

from xray2ctpa_core.simulation.people.space import STEP_MM, lattice, middle_of

#: Voxel edges in mm of the two levels, iterations at each, and the smoothing of the displacement in voxels.
_LEVELS = ((8.0, 60), (4.0, 40))
_SMOOTHING_VOXELS = 1.7
#: Brightest value compared: bone and contrast medium alike. Lungs are one flat value.
_BRIGHTEST_HU, _LUNG_HU = 150.0, -600.0
#: Half extents (z, y, x) in mm of the box that is registered.
_BOX_MM = (230.0, 170.0, 220.0)


def displacement_to(
    reference: tuple[np.ndarray, np.ndarray, float], person: tuple[np.ndarray, np.ndarray, float]
) -> np.ndarray:
    """(3, NODES, NODES, NODES) float32 in mm: from points of the reference to the person's same points.

    Args:
        reference, person: HU (D, H, W) with air outside the body, lungs (D, H, W) bool, voxel edge in mm.
    """
    scale = _extent_mm(person) / _extent_mm(reference)
    field: sitk.Image | None = None
    for step, iterations in _LEVELS:
        fixed = _seen(reference, np.ones(3), step)
        moving = _seen(person, scale, step)
        demons = sitk.DiffeomorphicDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(_SMOOTHING_VOXELS)
        if field is not None:
            field = sitk.Resample(
                field, fixed, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64
            )
            field = demons.Execute(fixed, moving, field)
        else:
            field = demons.Execute(fixed, moving)
    assert field is not None
    moved = sitk.GetArrayFromImage(field)[..., ::-1].transpose(3, 0, 1, 2)  # (z, y, x) in scaled mm
    on_nodes = _on_lattice(moved, _LEVELS[-1][0])
    nodes = lattice().numpy()
    factors = scale[:, None, None, None]
    return (factors * (nodes + on_nodes) - nodes).astype(np.float32)


def _extent_mm(subject: tuple[np.ndarray, np.ndarray, float]) -> np.ndarray:
    """(3,) size in mm of the lungs' box, by the lungs' quantiles, which a spur does not change."""
    _, lungs, step = subject
    extents = []
    for axis in range(3):
        share = lungs.sum(axis=tuple(other for other in range(3) if other != axis)).cumsum()
        extents.append(float(np.diff(np.interp([0.02, 0.98], share / share[-1], np.arange(len(share))))[0]))
    return np.array(extents) * step


def _seen(subject: tuple[np.ndarray, np.ndarray, float], scale: np.ndarray, step: float) -> sitk.Image:
    """The subject about its lungs' middle, shrunk by ``scale``, on cubic voxels of ``step`` mm."""
    hu, lungs, spacing = subject
    values = np.where(lungs, _LUNG_HU, np.minimum(hu, _BRIGHTEST_HU)).astype(np.float32)
    smooth = ndimage.gaussian_filter(values, step * scale / spacing / 2.5)
    axes = [
        torch.linspace(-half, half, 2 * round(half / step) + 1) * float(factor)
        for half, factor in zip(_BOX_MM, scale, strict=True)
    ]
    index = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None] / spacing
    index = index + torch.from_numpy(middle_of(lungs)).float().view(1, 3, 1, 1, 1)
    size = torch.tensor(hu.shape).view(1, 3, 1, 1, 1)
    unit = (2 * index / (size - 1) - 1).flip(1).permute(0, 2, 3, 4, 1)
    image = functional.grid_sample(
        torch.from_numpy(smooth)[None, None], unit, padding_mode="border", align_corners=True
    )
    result = sitk.GetImageFromArray(image[0, 0].numpy())
    result.SetSpacing([step] * 3)
    result.SetOrigin([-half for half in reversed(_BOX_MM)])
    return result


def _on_lattice(field: np.ndarray, step: float) -> np.ndarray:
    """(3, NODES, NODES, NODES): a field on the registered box, smoothed to the lattice's step; beyond the
    box its border goes on."""
    smooth = np.stack([ndimage.gaussian_filter(part, STEP_MM / step / 3) for part in field])
    where = lattice().permute(1, 2, 3, 0) / torch.tensor(_BOX_MM)
    values = torch.from_numpy(np.ascontiguousarray(smooth, dtype=np.float32))[None]
    sampled = functional.grid_sample(values, where.flip(-1)[None], padding_mode="border", align_corners=True)
    return sampled[0].numpy()
