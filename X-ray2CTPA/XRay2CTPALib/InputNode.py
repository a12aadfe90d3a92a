"""The radiograph's node: checks whether it can be used, and writes it to a file for the core."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.names import DETACHED_SUFFIXES, suffix_of
from xray2ctpa_core.mrml import NOTICE_ATTRIBUTE

#: Longest name of an input file, which is in ASCII: longer and other names are a problem in paths on Windows.
LONGEST_NAME = 60


def whyUnusable(node: Any) -> str:
    """Why ``node`` cannot be the input, as a sentence; "" if it can."""
    if node is None:
        return _("Select a chest X-ray.")
    if not node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLLabelMapVolumeNode"):
        return _("Select an image; {name} is none.").format(name=node.GetName())
    if node.GetAttribute(NOTICE_ATTRIBUTE) is not None:
        return _("{name} was generated; select the radiograph itself.").format(name=node.GetName())
    image = node.GetImageData()
    if image is None or image.GetPointData().GetScalars() is None:
        return _("{name} holds no image.").format(name=node.GetName())
    wide = [length for length in image.GetDimensions() if length > 1]
    if len(wide) > 2:
        return _("{name} has {count} slices; a chest radiograph has one.").format(
            name=node.GetName(), count=min(wide)
        )
    if len(wide) < 2:
        return _("{name} has no rows and columns.").format(name=node.GetName())
    return ""


def writeInput(node: Any, folder: Path) -> Path:
    """Writes the image of ``node`` into the new folder ``folder``, as input of the core.

    If the file from which the node was read still holds the same image, that file is copied, because it has
    more information than the node (meaning of greys and spacing). Otherwise the node's voxels are written as
    NRRD, with its own directions; a transform of the node in the scene is ignored.

    Returns:
        The file.

    Raises:
        InputError: the node cannot be the input.
        OutputError: the folder cannot be written.
    """
    reason = whyUnusable(node)
    if reason:
        raise InputError(reason)
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", node.GetName()).strip("._")[:LONGEST_NAME] or "radiograph"
    source = sourceFile(node)
    try:
        folder.mkdir(parents=True)
        if source is not None:
            target = folder / _withSuffix(stem, source)
            shutil.copyfile(source, target)
            return target
        target = folder / f"{stem}.nrrd"
        storage = slicer.vtkMRMLNRRDStorageNode()
        storage.SetFileName(str(target))
        storage.SetUseCompression(False)
        written = bool(storage.WriteData(node)) and target.is_file()
    except OSError as error:
        raise OutputError(
            _("The radiograph could not be written to {folder}: {reason}.").format(
                folder=folder, reason=error.strerror or error
            ),
            _("Free some space on that disk, or choose another temporary folder in the settings."),
        ) from error
    if not written:
        raise OutputError(
            _("The radiograph could not be written to {file}.").format(file=target),
            _("Free some space on that disk, or choose another temporary folder in the settings."),
        )
    return target


def sourceFile(node: Any) -> Path | None:
    """The one file ``node`` was read from, if reading it again gives the node's voxels and directions."""
    storage = node.GetStorageNode()
    if storage is not None and storage.GetFileName():
        path, reader = Path(storage.GetFileName()), _another(storage)
        reader.Copy(storage)
        reader.SetFileName(str(path))
    else:
        path = _dicomFile(node)
        reader = slicer.vtkMRMLVolumeArchetypeStorageNode()
        if path is not None:
            reader.SetFileName(str(path))
            reader.SetSingleFile(True)
    if path is None or not path.is_file() or suffix_of(path.name) in DETACHED_SUFFIXES:
        return None
    again = _another(node)
    return path if reader.ReadData(again) and _sameImage(node, again) else None


def _another(node: Any) -> Any:
    """A new node of the same class, in no scene; CreateNodeInstance would leak memory in Python."""
    return getattr(slicer, node.GetClassName())()


def _dicomFile(node: Any) -> Path | None:
    """The only file of the DICOM database from which the node was loaded."""
    instances = (node.GetAttribute("DICOM.instanceUIDs") or "").split()
    database = getattr(slicer, "dicomDatabase", None)
    if len(instances) != 1 or database is None:
        return None
    name = database.fileForInstance(instances[0])
    return Path(name) if name else None


def _sameImage(node: Any, other: Any) -> bool:
    if other.GetImageData() is None:
        return False
    first, second = slicer.util.arrayFromVolume(node), slicer.util.arrayFromVolume(other)
    same = first.shape == second.shape and first.dtype == second.dtype and np.array_equal(first, second)
    return same and np.allclose(_ijkToRAS(node), _ijkToRAS(other), atol=1e-4)


def _ijkToRAS(node: Any) -> np.ndarray:
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def _withSuffix(stem: str, source: Path) -> str:
    """``stem`` with the suffix of ``source``'s format; DICOM files may have none."""
    suffix = ".nii.gz" if source.name.lower().endswith(".nii.gz") else source.suffix
    known = re.fullmatch(r"\.[A-Za-z][A-Za-z0-9]{1,4}(\.gz)?", suffix)
    suffix = suffix if known else ""
    return stem if stem.lower().endswith(suffix.lower()) and suffix else stem + suffix
