"""Names of files: which suffix or first bytes name a form, and what of a name a result repeats."""

import os

#: Suffixes that name a form; what else follows a full stop belongs to a file's name (UIDs have eleven).
SUFFIXES = (
    ".nii.gz", ".nii", ".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff",
    ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".hdr.gz", ".img", ".img.gz",
)  # fmt: skip
#: Suffixes of files that hold a volume or name the file that does: what a folder is searched for.
VOLUME_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".hdr.gz")
#: Header and voxels of NIfTI and Analyze pairs.
PAIR_SUFFIXES = {".hdr": ".img", ".hdr.gz": ".img.gz"}
#: Suffixes of headers whose voxels are in another file, and of files that are no whole image alone.
HEADER_SUFFIXES = (".nhdr", ".mhd", *PAIR_SUFFIXES)
DETACHED_SUFFIXES = (*HEADER_SUFFIXES, *PAIR_SUFFIXES.values())
#: First bytes of PNG, JPEG and TIFF (BigTIFF too, of either byte order).
RASTER_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Bytes of a radiograph's name that its result's repeats: systems allow 255 in all.
LONGEST_STEM = 160


def suffix_of(name: str) -> str:
    """The suffix of a form that ``name`` ends with, in small letters; "" where it has none (UIDs)."""
    ends = [s for s in SUFFIXES if name.lower().endswith(s) and len(name) > len(s)]
    return max(ends, key=len, default="")


def stem_of(name: str) -> str:
    """``name`` without the suffix of a form: image.nii.gz -> image, 1.2.84 -> 1.2.84; cut where long."""
    name = name[: len(name) - len(suffix_of(name))]
    if len(os.fsencode(name)) > LONGEST_STEM:
        name = os.fsencode(name)[:LONGEST_STEM].decode(errors="ignore")
    return name or "radiograph"
