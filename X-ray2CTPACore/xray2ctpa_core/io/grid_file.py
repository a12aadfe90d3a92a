"""NIfTI, Analyze, NRRD and MetaImage files: voxels and their place in LPS. The RAS of NIfTI ends here."""

import gzip
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from nibabel.imageglobals import logger as nibabel_logger

from xray2ctpa_core.errors import InputError
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.names import HEADER_SUFFIXES, PAIR_SUFFIXES
from xray2ctpa_core.io.provenance import file_sha256, files_sha256

_NIFTI_SUFFIXES = (".nii", ".nii.gz", *PAIR_SUFFIXES, *PAIR_SUFFIXES.values())
_ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
#: Codes of xyzt_units -> mm; an unknown unit (0) is mm, as everywhere.
_MM_OF_NIFTI_UNITS = {1: 1000.0, 2: 1.0, 3: 0.001}
#: Words of an NRRD's "space units" -> mm.
_MM_OF_NRRD_UNITS = {
    "m": 1000.0, "meter": 1000.0, "metre": 1000.0, "cm": 10.0, "mm": 1.0, "um": 0.001, "\u00b5m": 0.001,
    "micron": 0.001, "microns": 0.001, "micrometer": 0.001,
}  # fmt: skip
_J = 1
_GZIP = b"\x1f\x8b"
_NIFTI2_HEADER_BYTES = 540
#: Sizes of a voxel that differ by less (relative) are the same.
SAME_SIZE = 0.01
_TEXT_HEADER_BYTES = 1 << 16
_META_HEADER_BYTES = 4096
_UNKNOWN_ENCODINGS = ("bzip2", "bz2")
#: Axis of a NIfTI's vectors, and how many numbers a colour has at most.
_VECTOR_AXIS, _MOST_CHANNELS = 4, 4
_META_KEYS = (b"ndims", b"dimsize", b"elementtype", b"elementdatafile")


@dataclass(frozen=True)
class GridHeader:
    """What a file says before its voxels are read.

    Attributes:
        size: voxels along (i, j, k) and further axes, at least two numbers.
        channels: values in a voxel (3 for colour).
        affine: (4, 4) float64, voxel index (i, j, k, 1) to LPS mm.
        oriented: False where the header leaves the orientation unknown (NIfTI's codes both 0; Analyze).
        form: "NIfTI", "Analyze", "NRRD" or "MetaImage".
        notes: what the header leaves in doubt, in sentences.
    """

    size: tuple[int, ...]
    channels: int
    affine: np.ndarray
    oriented: bool
    form: str
    notes: tuple[str, ...] = ()


def is_grid_file(path: Path) -> bool:
    """Whether the suffix says NIfTI, Analyze, NRRD or MetaImage."""
    return path.name.lower().endswith(_NIFTI_SUFFIXES + _ITK_SUFFIXES)


def without_data_files(files: Sequence[Path]) -> list[Path]:
    """``files`` without those that a header among them takes its voxels from."""
    headers = [f for f in files if f.name.lower().endswith(HEADER_SUFFIXES)]
    taken = {header.parent / name for header in headers for name in _detached_files(header)}
    return [file for file in files if file not in taken]


def grid_sha256(path: Path) -> str:
    """SHA-256 of the file, or over the digests of a header and the files that its voxels are in."""
    files = [path, *(path.parent / name for name in _detached_files(path))]
    return file_sha256(path) if len(files) == 1 else files_sha256(files)


def read_grid_header(path: Path) -> GridHeader:
    """Reads the header alone; raises InputError for a damaged file or one of another kind."""
    with reading(path, "NIfTI, Analyze, NRRD or MetaImage"):
        if path.name.lower().endswith(_NIFTI_SUFFIXES):
            return _nifti_header(_nifti(path))
        return _itk_header(_itk_reader(path), path)


def read_grid_array(path: Path) -> np.ndarray:
    """Voxels with axes (i, j, k, ...), colour channels last, as stored (NIfTI: scaled to real values).

    Raises:
        InputError: a damaged file, or complex numbers.
    """
    with reading(path, "NIfTI, Analyze, NRRD or MetaImage"):
        if path.name.lower().endswith(_NIFTI_SUFFIXES):
            image = _nifti(path)
            _check_offset(image, path)
            array = np.asarray(image.dataobj)
            if array.dtype.names:
                array = np.stack([array[name] for name in array.dtype.names], axis=-1)
            elif _vector_length(array.shape) > 1:
                array = array[..., 0, :]
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
    _check_files(path)
    was_disabled, nibabel_logger.disabled = nibabel_logger.disabled, True
    try:
        with path.open("rb") as file:
            is_packed = file.read(2) == _GZIP
        if is_packed == path.name.lower().endswith(".gz") or _partner(path):
            return nib.load(path)
        return _misnamed_nifti(path.read_bytes(), is_packed)
    finally:
        nibabel_logger.disabled = was_disabled


def _check_offset(image: "nib.Nifti1Image", path: Path) -> None:
    """Raises InputError where the voxels of a single file would begin within its header."""
    offset = int(image.dataobj.offset)
    if not _partner(path) and offset < int(image.header["sizeof_hdr"]):
        raise InputError(
            f"Expected voxels behind the NIfTI header, got vox_offset {offset} in {path.name}.",
            "The header is damaged: convert the image again.",
        )


def _misnamed_nifti(content: bytes, is_packed: bool) -> "nib.Nifti1Image":
    """The image in a .nii that was compressed, or in a .nii.gz that was not."""
    content = gzip.decompress(content) if is_packed else content
    sizes = (int.from_bytes(content[:4], order) for order in ("little", "big"))
    kind = nib.Nifti2Image if _NIFTI2_HEADER_BYTES in sizes else nib.Nifti1Image
    return kind.from_bytes(content)


def _nifti_header(image: "nib.Nifti1Image") -> GridHeader:
    """As ITK reads it: lengths in mm whatever the header's unit is. Without either code the axes are as
    DICOM's are, i to the left, j to posterior, k to superior; an Analyze header has no codes, and its j runs
    to anterior."""
    header = image.header
    names = image.get_data_dtype().names
    is_nifti = isinstance(header, nib.Nifti1Header)
    oriented = is_nifti and bool(int(header["qform_code"]) or int(header["sform_code"]))
    notes: tuple[str, ...] = ()
    if oriented:
        affine = _RAS_TO_LPS @ np.asarray(image.affine, dtype=np.float64)
        notes = _disagreement(header, affine) + _forms_disagreement(header)
    else:
        said, j = ("NIfTI header says no orientation (qform and sform code 0)", "posterior")
        affine = np.diag([*np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64)), 1.0])
        if not is_nifti:
            said, j = ("header is of Analyze 7.5, which holds no orientation", "anterior")
            affine[_J, _J] *= -1
        notes = (
            f"The {said}; its axes were taken to run to the patient's left, to {j} and to superior: left and "
            "right may be exchanged.",
        )
    affine[:3] *= _mm_of_unit(header)
    notes += _unit_doubt(header)
    size = tuple(int(n) for n in image.shape)
    size += (1,) * (2 - len(size))
    channels = len(names) if names else _vector_length(size)
    if channels > 1 and not names:
        size = size[:3]
    form = "NIfTI" if is_nifti else "Analyze"
    return GridHeader(size, channels, affine, oriented, form, notes)


def _vector_length(size: tuple[int, ...]) -> int:
    """Numbers in a voxel of a NIfTI of one slice, whose fifth axis ITK gives to colour; 1 of any other."""
    is_colour = len(size) == _VECTOR_AXIS + 1 and size[2] == size[3] == 1 and size[4] <= _MOST_CHANNELS
    return size[_VECTOR_AXIS] if is_colour else 1


def _disagreement(header: "nib.Nifti1Header", affine: np.ndarray) -> tuple[str, ...]:
    """A sentence where the voxels' size in ``affine`` is not that which pixdim says."""
    lengths, said = np.linalg.norm(affine[:3, :3], axis=0), np.asarray(header["pixdim"][1:4], np.float64)
    count = min(int(header["dim"][0]), 3)
    if np.allclose(lengths[:count], np.abs(said[:count]), rtol=SAME_SIZE):
        return ()
    here, there = (" x ".join(f"{n:.3g}" for n in sides[:count]) for sides in (lengths, said))
    return (
        f"The NIfTI header disagrees with itself: voxels of {here} by its sform, of {there} by pixdim; the "
        "sform was believed.",
    )


def _forms_disagreement(header: "nib.Nifti1Header") -> tuple[str, ...]:
    """A sentence where qform and sform say different directions of the axes."""
    sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    if sform is None or qform is None:
        return ()
    here, there = ("".join(axis or "?" for axis in nib.aff2axcodes(form)) for form in (sform, qform))
    if here == there:
        return ()
    return (
        f"The NIfTI header disagrees with itself: axes run to {here} by its sform, to {there} by its qform; "
        "the sform was believed: compare left and right.",
    )


def _mm_of_unit(header: "nib.AnalyzeHeader") -> float:
    """How many mm the header's unit of length is."""
    if isinstance(header, nib.Nifti1Header):
        return _MM_OF_NIFTI_UNITS.get(int(header["xyzt_units"]) & 0b111, 1.0)
    word = bytes(header["vox_units"]).rstrip(b"\0 ").decode("latin-1").lower()
    return _MM_OF_NRRD_UNITS.get(word, 1.0)


def _unit_doubt(header: "nib.AnalyzeHeader") -> tuple[str, ...]:
    """A sentence on a NIfTI unit of length that no code stands for."""
    code = int(header["xyzt_units"]) & 0b111 if isinstance(header, nib.Nifti1Header) else 0
    if code in (0, *_MM_OF_NIFTI_UNITS):
        return ()
    return (f"The NIfTI header's unit of length has the code {code}, which is none; mm were taken.",)


def _check_files(path: Path) -> None:
    """Raises InputError where a file that holds a part of the image of ``path`` is missing."""
    missing = [name for name in _detached_files(path) if not (path.parent / name).is_file()]
    if not missing:
        return
    what = "header" if _partner(path).lower().endswith(tuple(PAIR_SUFFIXES)) else "pixels"
    raise InputError(
        f"Expected the {what} of {path.name} in {missing[0]}, which is missing.",
        "Copy header and data file together, or export one file (.nii, .nrrd, .mha).",
    )


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
    _check_files(path)
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
    units = _units(path, spatial)[:spatial]
    for axis, unit in enumerate(units):
        affine[axis] *= _MM_OF_NRRD_UNITS.get(unit.lower(), 1.0)
    form = "NRRD" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImage"
    unknown = sorted({unit for unit in units if unit and unit.lower() not in _MM_OF_NRRD_UNITS})
    notes = (f"The unit of length {', '.join(unknown)} is not known; mm were taken.",) if unknown else ()
    return GridHeader(tuple(reader.GetSize()), reader.GetNumberOfComponents(), affine, True, form, notes)


def _check_complete(path: Path, reader: "sitk.ImageFileReader") -> None:
    """Raises InputError for voxels that are cut, by their files' lengths, or packed in a way that ITK does
    not know: it writes to stderr when it meets them."""
    if path.suffix.lower() in (".mha", ".mhd"):
        packed = b"compresseddata=true" in _meta_header(path)
    else:
        lines = (line.partition(":") for line in _text_header(path))
        encoding = next(
            (value.strip().lower() for key, _, value in lines if key.lower() == "encoding"), "raw"
        )
        packed = encoding != "raw"
        if encoding in _UNKNOWN_ENCODINGS:
            raise InputError(
                f"Expected an NRRD with encoding raw, gzip or ascii, got {encoding} in {path.name}.",
                "Save it with another encoding.",
            )
    if packed:
        return
    item_bytes = sitk.GetArrayFromImage(sitk.Image([1] * 2, reader.GetPixelID())).itemsize
    expected = int(np.prod(reader.GetSize(), dtype=np.int64)) * reader.GetNumberOfComponents() * item_bytes
    files = [path.parent / name for name in _detached_files(path)] or [path]
    found = sum(file.stat().st_size for file in files)
    if found < expected:
        place = path.name if files == [path] else f"the data of {path.name}, {files[0].name}"
        raise InputError(
            f"Expected at least {expected} bytes, got {found} in {place}: it is truncated.",
            "Export the file again.",
        )


def _text_header(path: Path) -> list[str]:
    """Lines of an NRRD's or MetaImage's header: up to the first empty one."""
    with path.open("rb") as file:
        text = file.read(_TEXT_HEADER_BYTES).decode("utf-8", errors="replace")
    return text.replace("\r", "").split("\n\n", 1)[0].split("\n")


def _units(path: Path, axes: int) -> list[str]:
    """Units of an NRRD's space, or else of its axes, or a MetaImage's; none where it says none."""
    lines = _text_header(path)
    if path.suffix.lower() in (".mha", ".mhd"):
        found = [re.match(r"\s*DistanceUnits\s*=\s*(\S+)", line, re.IGNORECASE) for line in lines]
        return next(([match[1]] * axes for match in found if match), [])
    for key in ("space units:", "units:"):
        line = next((line for line in lines if line.lower().startswith(key)), "")
        if line:
            return re.findall(r'"([^"]*)"', line)[-axes:]  # colour has an axis of its own, in front
    return []


def _partner(path: Path) -> str:
    """Name of the other file of a pair, as it is spelt on the disk where it is there; "" of other forms."""
    name = path.name
    for first, second in (*PAIR_SUFFIXES.items(), *((b, a) for a, b in PAIR_SUFFIXES.items())):
        if name.lower().endswith(first):
            partner = name[: -len(first)] + second
            upper = name[: -len(first)] + second.upper()
            return upper if name[-1].isupper() and (path.parent / upper).exists() else partner
    return ""


def _detached_files(path: Path) -> list[str]:
    """Names of the files that a header takes its voxels from, or the other one of a pair; none where all is
    in one file."""
    if path.name.lower().endswith(_NIFTI_SUFFIXES):
        return [partner] if (partner := _partner(path)) else []
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
