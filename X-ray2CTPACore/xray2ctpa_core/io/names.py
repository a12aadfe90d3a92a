"""Names of files: which suffix or first bytes name a form, and what of a name a result repeats."""

import os

#: Suffixes that name a form; what else follows a full stop belongs to a file's name (UIDs have eleven).
SUFFIXES = (
    ".nii.gz", ".nii", ".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".jpe", ".tif", ".tiff",
    ".nrrd", ".nhdr", ".mha", ".mhd",
)  # fmt: skip
#: First bytes of PNG, JPEG and TIFF (BigTIFF too, of either byte order).
RASTER_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: Bytes of a radiograph's name that its result's repeats: systems allow 255 in all.
LONGEST_STEM = 160


def stem_of(name: str) -> str:
    """``name`` without the suffix of a form: image.nii.gz -> image, 1.2.84 -> 1.2.84; cut where long."""
    suffix = next((s for s in SUFFIXES if name.lower().endswith(s) and len(name) > len(s)), "")
    name = name[: len(name) - len(suffix)]
    if len(os.fsencode(name)) > LONGEST_STEM:
        name = os.fsencode(name)[:LONGEST_STEM].decode(errors="ignore")
    return name or "radiograph"
