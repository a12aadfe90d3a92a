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
#: Archives, documents and images of other forms, which are given in place of a radiograph: where in the file
#: their mark is, the mark, what they are, and what to do.
_UNPACK, _EXPORT = "Unpack it, and give the image or its folder.", "Export the radiograph as DICOM or PNG."
_DOWNLOAD = "Download the image itself: its server asked for a login, or refused."
GZIP = b"\x1f\x8b"
_FOREIGN = (
    (0, b"PK\x03\x04", "a ZIP archive", _UNPACK),
    (0, b"Rar!", "a RAR archive", _UNPACK),
    (0, b"7z\xbc\xaf", "a 7-Zip archive", _UNPACK),
    (0, GZIP, "packed by gzip", _UNPACK),
    (257, b"ustar", "a TAR archive", _UNPACK),
    (0, b"%PDF", "a PDF document", _EXPORT),
    (0, b"GIF8", "a GIF image", _EXPORT),
    (8, b"WEBP", "a WebP image", _EXPORT),
    (4, b"ftyp", "a HEIF or video file", _EXPORT),
    (4, b"jP  ", "a JPEG 2000 image", _EXPORT),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _EXPORT),
    (6, b"\0\0\0\0", "a BMP image", _EXPORT),
    (0, b"<!doctype html", "a web page", _DOWNLOAD),
    (0, b"<html", "a web page", _DOWNLOAD),
    (0, b"version https://git-lfs", "a pointer of Git LFS", "Fetch the file itself: git lfs pull."),
)
#: Bytes from the start of a file in which such a mark is.
FOREIGN_BYTES = 264
#: Bytes of a radiograph's name that its result's repeats: systems allow 255 in all.
LONGEST_STEM = 160


def foreign_form(head: bytes) -> tuple[str, str] | None:
    """What a file that begins with ``head`` is and what to do, if it is none that holds a radiograph."""
    low = head.lower()
    return next(
        (
            (form, advice)
            for place, mark, form, advice in _FOREIGN
            if low[place : place + len(mark)] == mark.lower() and (mark.strip(b"\0") or head[:2] == b"BM")
        ),
        None,
    )


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
