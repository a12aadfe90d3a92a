"""NIfTI, NRRD and MetaImage files: voxels and their place in LPS. The RAS of NIfTI ends here."""

import re
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.imageglobals import logger as nibabel_logger

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading

_NIFTI_SUFFIXES = (".nii", ".nii.gz")
_ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Codes of xyzt_units -> mm; an unknown unit (0) is mm, as everywhere.
_MM_OF_NIFTI_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}
#: Words of an NRRD's "space units" -> mm.
_MM_OF_NRRD_UNITS = {
    "m": 1000.0, "meter": 1000.0, "metre": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "\u00b5m": 0.001,
    "micron": 0.001, "microns": 0.001, "micrometer": 0.001,
}  # fmt: skip
_TEXT_HEADER_BYTES = 1 << 16
_META_HEADER_BYTES = 4096
_META_KEYS = (b"ndims", b"dimsize", b"elementtype", b"elementdatafile")


@dataclass(frozen=True)
class GridHeader:
    """What a file says before its voxels are read.

    Attributes:
        size: voxels along (i, j, k) and further axes, at least two numbers.
        channels: values in a voxel (3 for colour).
        affine: (4, 4) float64, voxel index (i, j, k, 1) to LPS mm.
        oriented: False where a NIfTI header leaves the orientation unknown (both codes 0).
        notes: what the header leaves in doubt, in sentences.
    """

    size: tuple[int, ...]
    channels: int
    affine: np.ndarray
    oriented: bool
    notes: tuple[str, ...] = ()


def is_grid_file(path: Path) -> bool:
    """Whether the suffix says NIfTI, NRRD or MetaImage."""
    return path.name.lower().endswith(_NIFTI_SUFFIXES + _ITK_SUFFIXES)


def form_of(path: Path) -> str:
    """ "NIfTI", "NRRD" or "MetaImage", of a file of which ``is_grid_file`` is true."""
    if path.name.lower().endswith(_NIFTI_SUFFIXES):
        return "NIfTI"
    return "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"


def read_grid_header(path: Path) -> GridHeader:
    """Reads the header alone; raises InputError for a damaged file or one of another kind."""
    with reading(path, "NIfTI, NRRD or MetaImage"):
        if path.name.lower().endswith(_NIFTI_SUFFIXES):
            return _nifti_header(_nifti(path))
        return _itk_header(_itk_reader(path), path)


def read_grid_array(path: Path) -> np.ndarray:
    """Voxels with axes (i, j, k, ...), colour channels last, as stored (NIfTI: scaled to real values).

    Raises:
        InputError: a damaged file, or complex numbers.
    """
    with reading(path, "NIfTI, NRRD or MetaImage"):
        if path.name.lower().endswith(_NIFTI_SUFFIXES):
            array = np.asarray(_nifti(path).dataobj)
            if array.dtype.names:
                array = np.stack([array[name] for name in array.dtype.names], axis=-1)
        else:
            reader = _itk_reader(path)
            _check_complete(path, reader)
            image = reader.Execute()
            array = sitk.GetArrayFromImage(image)
            axes = tuple(reversed(range(image.GetDimension())))
            array = array.transpose((*axes, *range(len(axes), array.ndim)))
        if not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
            raise InputError(
                f"Expected real voxels, got {array.dtype} in {path.name}.", "Export grey values."
            )
        return array


def _nifti(path: Path) -> "nib.Nifti1Image":
    """The image, its voxels not yet read; nibabel's remarks on header repairs stay off the terminal."""
    was_disabled, nibabel_logger.disabled = nibabel_logger.disabled, True
    try:
        return nib.load(path)
    finally:
        nibabel_logger.disabled = was_disabled


def _nifti_header(image: "nib.Nifti1Image") -> GridHeader:
    """As ITK reads it: lengths in mm whatever the header's unit is, and without either code the axes as
    DICOM's are, i to the left, j to posterior, k to superior."""
    header = image.header
    names = image.get_data_dtype().names
    oriented = bool(int(header["qform_code"]) or int(header["sform_code"]))
    notes: tuple[str, ...] = ()
    if oriented:
        affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
    else:
        affine = np.diag([*np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64)), 1.0])
        notes = (
            "The NIfTI header says no orientation (qform and sform code 0); its axes were taken to run to "
            "the patient's left, to posterior and to superior.",
        )
    affine[:3] *= _MM_OF_NIFTI_UNITS.get(int(header["xyzt_units"]) & 0b111, 1.0)
    size = tuple(int(n) for n in image.shape)
    return GridHeader(size + (1,) * (2 - len(size)), len(names) if names else 1, affine, oriented, notes)


def _itk_reader(path: Path) -> "sitk.ImageFileReader":
    """A reader that knows the header. MetaImages are looked at first: ITK writes to stderr about bad ones."""
    if path.suffix.lower() in (".mha", ".mhd"):
        header = _meta_header(path)
        missing = [key.decode() for key in _META_KEYS if key not in header]
        if missing:
            raise InputError(
                f"Expected a MetaImage, got {path.name}, whose header lacks {', '.join(missing)}.",
                "The file is damaged or of another kind: export it again.",
            )
    missing_files = [name for name in _detached_files(path) if not (path.parent / name).is_file()]
    if missing_files:
        raise InputError(
            f"Expected the pixels of {path.name} in {missing_files[0]}, which is missing.",
            "Copy the header together with its data file, or export one file (.nrrd, .mha).",
        )
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _itk_header(reader: "sitk.ImageFileReader", path: Path) -> GridHeader:
    """ITK is LPS already but for units, which it leaves; axes beyond its file's dimension are filled up to
    three."""
    dimension = reader.GetDimension()
    spatial = min(dimension, 3)
    direction = np.reshape(reader.GetDirection(), (dimension, dimension))[:spatial, :spatial]
    affine = np.eye(4)
    affine[:spatial, :spatial] = direction * np.asarray(reader.GetSpacing()[:spatial])
    affine[:spatial, 3] = reader.GetOrigin()[:spatial]
    for axis, unit in enumerate(_nrrd_units(path)[:spatial]):
        affine[axis] *= _MM_OF_NRRD_UNITS.get(unit.lower(), 1.0)
    return GridHeader(tuple(reader.GetSize()), reader.GetNumberOfComponents(), affine, oriented=True)


def _check_complete(path: Path, reader: "sitk.ImageFileReader") -> None:
    """Raises InputError for a cut MetaImage, by its length: ITK writes to stderr when it meets its end."""
    if path.suffix.lower() != ".mha" or b"compresseddata=true" in _meta_header(path):
        return
    item_bytes = sitk.GetArrayFromImage(sitk.Image([1] * 2, reader.GetPixelID())).itemsize
    expected = int(np.prod(reader.GetSize(), dtype=np.int64)) * reader.GetNumberOfComponents() * item_bytes
    if path.stat().st_size < expected:
        raise InputError(
            f"Expected at least {expected} bytes, got {path.stat().st_size} in {path.name}: it is truncated.",
            "Export the file again.",
        )


def _text_header(path: Path) -> list[str]:
    """Lines of an NRRD's or MetaImage's header: up to the first empty one."""
    with path.open("rb") as file:
        text = file.read(_TEXT_HEADER_BYTES).decode("utf-8", errors="replace")
    return text.replace("\r", "").split("\n\n", 1)[0].split("\n")


def _nrrd_units(path: Path) -> list[str]:
    """Units of an NRRD's space, axis by axis; none where it says none."""
    if path.suffix.lower() not in (".nrrd", ".nhdr"):
        return []
    line = next((line for line in _text_header(path) if line.lower().startswith("space units:")), "")
    return re.findall(r'"([^"]*)"', line)


def _detached_files(path: Path) -> list[str]:
    """Names of the files that a header takes its voxels from; none where they follow it."""
    is_nrrd = path.suffix.lower() in (".nrrd", ".nhdr")
    key = r"data ?file\s*:" if is_nrrd else r"elementdatafile\s*="
    lines = _text_header(path)
    for number, line in enumerate(lines):
        match = re.match(rf"\s*{key}\s*(.+?)\s*$", line, re.IGNORECASE)
        if match is None or match[1].upper() == "LOCAL":
            continue
        if match[1].upper().startswith("LIST"):
            return [name.strip() for name in lines[number + 1 :] if name.strip()]
        pattern = re.fullmatch(r"(\S*%\d*d\S*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+).*", match[1])
        if pattern is None:
            return [match[1]]
        first, last, step = (int(n) for n in pattern.groups()[1:])
        return [pattern[1] % n for n in range(first, last + (1 if step > 0 else -1), step or 1)]
    return []


def _meta_header(path: Path) -> bytes:
    """The file's first bytes, in small letters and without blanks."""
    with path.open("rb") as file:
        return file.read(_META_HEADER_BYTES).lower().replace(b" ", b"")
