"""Volumes to and from NIfTI (RAS in the file), NRRD and MetaImage; a Volume itself is LPS."""

import gzip
import io
import os
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import DTypeLike

from xray2ctpa_core.constants import NOTICE, SYNTHETIC
from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.failures import reading
from xray2ctpa_core.io.grid_file import is_grid_file, read_grid_array, read_grid_header
from xray2ctpa_core.volume import Volume

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SCANNER_ANATOMICAL = 1
#: Of CT, level 3 packs as densely as gzip's own 6, but for 0.4 %, in two thirds of the time.
_GZIP_LEVEL = 3


def write_volume(volume: Volume, path: Path, dtype: DTypeLike, description: str = "") -> None:
    """Writes ``volume`` as NIfTI-1, the same bytes for the same volume, all of it or nothing.

    sform and qform both carry the affine (code 1, scanner), units are mm, and no scaling is used: what is
    stored is the value itself.

    Args:
        volume: HU for CT, otherwise as the caller means it.
        path: ends in .nii or .nii.gz; its folder exists.
        dtype: of the file (int16 for HU, uint8 for labels, float32 for maps). Integers are rounded to the
            nearest, halves to the even one, and clipped to the range of ``dtype``.
        description: ASCII of at most 79 characters for the header. One that begins with SYNTHETIC also sets
            the header's intent name to it and adds NOTICE as a comment.

    Raises:
        InputError: another suffix, or NaN or infinite voxels.
        OutputError: the place cannot be written or is full; nothing is left behind.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(f"Expected a name that ends in .nii or .nii.gz, got {path.name}.")
    content = _nifti_bytes(volume, np.dtype(dtype), description)
    if path.name.endswith(".gz"):
        content = _gzip(content)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        _remove(partial)
        raise OutputError(
            f"Expected to write {path}, got: {error.strerror or error}.",
            "Choose a writable folder with free space.",
        ) from error


def read_volume(path: Path) -> Volume:
    """Reads a volume as stored: no axis is flipped or permuted, the affine says where the voxels lie.

    Args:
        path: .nii, .nii.gz, .hdr or .img of a pair, .nrrd, .nhdr, .mha or .mhd.

    Returns:
        (D, H, W) = (k, j, i) in the file's dtype (float64 for a NIfTI with scaling), affine to LPS mm.

    Raises:
        InputError: missing, damaged, of another form, not three-dimensional, or in colour.
    """
    return read_volume_with_notes(path)[0]


def read_volume_with_notes(path: Path) -> tuple[Volume, tuple[str, ...]]:
    """As ``read_volume``, with what its header leaves in doubt, in sentences."""
    path = Path(path)
    with reading(path, "NIfTI, Analyze, NRRD or MetaImage"):
        path.stat()
        if not is_grid_file(path):
            raise InputError(f"Expected a NIfTI, Analyze, NRRD or MetaImage volume, got {path.name}.")
        header = read_grid_header(path)
        extra_axes = header.size[3:]
        if len(header.size) < 3 or any(n > 1 for n in extra_axes) or header.channels > 1:
            size = " x ".join(str(n) for n in header.size)
            raise InputError(
                f"Expected a volume of three axes and one channel, got {path.name} with {size} voxels and "
                f"{header.channels} channel(s)."
            )
        if not np.isfinite(header.affine).all() or not np.linalg.det(header.affine[:3, :3]):
            raise InputError(
                f"Expected axes with a length in mm, got a header without in {path.name}: "
                f"{header.affine[:3, :3].tolist()}.",
                "Its spacing or directions were lost: convert the volume again.",
            )
        array = read_grid_array(path).reshape(header.size[:3])
        native = array.dtype.newbyteorder("=")
        volume = Volume(np.ascontiguousarray(array.transpose(2, 1, 0), dtype=native), header.affine)
        return volume, header.notes


def read_axial_volume(path: Path) -> Volume:
    """Reads a volume whose i runs to the patient's Left, j to Posterior and k to Superior: ``read_volume``.

    Raises:
        InputError: as ``read_volume``, or another orientation.
    """
    volume = read_volume(path)
    axes = volume.affine[:3, :3]
    if (np.abs(axes - np.diag(np.diag(axes))) > 1e-4).any() or (np.diag(axes) <= 0).any():
        raise InputError(f"Expected axial slices with i to Left, j to Posterior, k to Superior in {path}.")
    return volume


def _nifti_bytes(volume: Volume, dtype: np.dtype, description: str) -> bytes:
    array = _as_dtype(volume.array, dtype).transpose(2, 1, 0)
    image = nib.Nifti1Image(array, None, dtype=dtype)
    ras = _LPS_TO_RAS @ volume.affine
    image.set_sform(ras, code=_SCANNER_ANATOMICAL)
    image.set_qform(ras, code=_SCANNER_ANATOMICAL)
    image.header.set_xyzt_units(xyz="mm")
    image.header["descrip"] = description.encode("ascii")
    if description.startswith(SYNTHETIC):
        image.header["intent_name"] = SYNTHETIC.encode("ascii")
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", NOTICE.encode("ascii")))
    content: bytes = image.to_bytes()
    return content


def _as_dtype(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """``array`` in ``dtype``, rounded and clipped for integers; raises InputError for NaN and infinity."""
    if not np.isfinite(array).all():
        raise InputError("Expected finite voxels to write, got NaN or infinity.")
    if not np.issubdtype(dtype, np.integer):
        return array.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(array), limits.min, limits.max).astype(dtype)


def _gzip(content: bytes) -> bytes:
    """Gzip without a file name or time in its header."""
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=packed, mtime=0) as file:
        file.write(content)
    return packed.getvalue()


def _remove(partial: Path) -> None:
    """Removes what a failed write left; a place that cannot even do that keeps the first error."""
    try:
        partial.unlink(missing_ok=True)
    except OSError:
        return
