"""Writes small CTs in the forms that data sets come in: a phantom thorax, DICOM series, CSV tables."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from xray2ctpa_core.volume import Volume, axial_affine

INTERCEPT = -1024
#: (z, y, x) mm of the phantom: 12 slices of 32 x 32.
PHANTOM_EXTENT = (240.0, 320.0, 320.0)

#: Changes the data set of slice k (the functional groups of frame k) before it is written.
Edit = Callable[[int, Any], None]


def phantom(shape: tuple[int, int, int] = (12, 32, 32), clot_hu: float = 40.0) -> Volume:
    """A thorax of water with two lungs of about one litre each and a dense ball on the patient's left, where
    ``clot_hu`` may change it; PHANTOM_EXTENT in size, the middle at LPS (10, -20, 30)."""
    affine = axial_affine(shape, PHANTOM_EXTENT, centre_lps=(10.0, -20.0, 30.0))
    k, j, i = np.indices(shape)
    x, y, z = (
        affine[axis, axis] * index + affine[axis, 3] - centre
        for axis, (index, centre) in enumerate(zip((i, j, k), (10.0, -20.0, 30.0), strict=True))
    )
    hu = np.full(shape, -1000.0, np.float32)
    hu[(x / 150) ** 2 + (y / 110) ** 2 <= 1] = 40.0
    for side in (-70.0, 70.0):
        hu[((x - side) / 50) ** 2 + (y / 75) ** 2 + (z / 95) ** 2 <= 1] = -850.0
    hu[(x - 25) ** 2 + (y - 70) ** 2 + (z - 40) ** 2 <= 20**2] = clot_hu
    return Volume(hu, affine)


def write_series(folder: Path, volume: Volume, edit: Edit | None = None, uid: str = "") -> list[Path]:
    """Writes one file a slice, named so that the names' order is not the slices'; returns them by k.

    Stored values are uint16 with intercept -1024; the geometry is the volume's affine, sheared or not.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series = uid or generate_uid()
    count = len(volume.array)
    paths = [folder / f"{(k * 37 + 3) % 101:03d}-{k}.dcm" for k in range(count)]
    directions = volume.affine[:3, :2].T
    spacing = np.linalg.norm(directions, axis=1)
    for k, path in enumerate(paths):
        dataset = FileDataset(path, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.Modality = "CT"
        dataset.SeriesInstanceUID = series
        dataset.InstanceNumber = (k * 5) % count
        dataset.ImagePositionPatient = [round(float(v), 6) for v in (volume.affine @ [0, 0, k, 1])[:3]]
        dataset.ImageOrientationPatient = [
            round(float(v), 9) for v in (directions / spacing[:, None]).ravel()
        ]
        dataset.PixelSpacing = [round(float(spacing[1]), 6), round(float(spacing[0]), 6)]
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, INTERCEPT
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = 0
        set_pixels(dataset, np.rint(volume.array[k] - INTERCEPT).astype(np.uint16))
        if edit is not None:
            edit(k, dataset)
        pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    return paths


def write_enhanced(
    path: Path, volume: Volume, edit: Edit | None = None, syntax: str = ExplicitVRLittleEndian
) -> list[int]:
    """Writes an Enhanced CT whose frames are not in the slices' order; returns the k of each frame.

    ``edit`` gets the number of a frame and its functional groups. Slice k is stored with slope k + 1 and the
    intercept -1024 that its own groups name.
    """
    count = len(volume.array)
    order = [(k * 5 + 3) % count for k in range(count)]
    assert sorted(order) == list(range(count))
    dataset = FileDataset(path, {}, file_meta=FileMetaDataset(), preamble=b"\0" * 128)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedCTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.Modality, dataset.SeriesInstanceUID, dataset.NumberOfFrames = "CT", generate_uid(), count
    directions = volume.affine[:3, :2].T
    spacing = np.linalg.norm(directions, axis=1)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = [
        round(float(v), 9) for v in (directions / spacing[:, None]).ravel()
    ]
    measures.PixelSpacing = [round(float(spacing[1]), 6), round(float(spacing[0]), 6)]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [_frame_groups(volume, k) for k in order]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = 0
    stored = np.stack([np.rint((volume.array[k] - INTERCEPT) / (k + 1)).astype(np.uint16) for k in order])
    set_pixels(dataset, stored[0])
    dataset.PixelData = stored.tobytes()
    for n, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        if edit is not None:
            edit(n, groups)
    if syntax != ExplicitVRLittleEndian:
        dataset.compress(syntax, generate_instance_uid=False)
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    return order


def _frame_groups(volume: Volume, k: int) -> Dataset:
    """Place and rescaling of slice k."""
    groups, position, rescale = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [round(float(v), 6) for v in (volume.affine @ [0, 0, k, 1])[:3]]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = k + 1, INTERCEPT, "HU"
    groups.PlanePositionSequence, groups.PixelValueTransformationSequence = [position], [rescale]
    return groups


def set_pixels(dataset: FileDataset, stored: np.ndarray) -> None:
    """Puts (H, W) uint16 into a data set."""
    dataset.Rows, dataset.Columns = stored.shape
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"


def write_rows(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """Writes a CSV, or a TSV where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerow(header)
        writer.writerows(rows)
    return path
