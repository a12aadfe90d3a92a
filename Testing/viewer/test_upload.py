"""What a browser may send: names without tricks, one file of a known kind, at most 50 MB."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from xray2ctpa_core.errors import InputError, OutputError
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.viewer import upload

PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("radiograph.png", "radiograph.png"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\radiograph.dcm", "radiograph.dcm"),
        ("/absolute/radiograph.png", "radiograph.png"),
        ("..", "radiograph"),
        ("", "radiograph"),
        (".hidden.png", "hidden.png"),
        ("-rf.png", "rf.png"),
        ("--out=x.png", "out_x.png"),
        ("a\0b\n<script>.png", "a_b__script_.png"),
        ("Röntgen 肺 (1).png", "Röntgen 肺 (1).png"),
    ],
)
def test_a_name_leads_nowhere(given, kept):
    assert upload.safe_name(given) == kept


def test_a_long_name_keeps_its_end_and_fits_a_file_system():
    name = upload.safe_name("肺" * 300 + ".png")
    assert name.endswith("肺.png")
    assert len(name.encode()) <= 120


def received(content: bytes, name: str, folder: Path, announced: int | None = None) -> Path:
    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(content), 1 << 20):
            yield content[start : start + (1 << 20)]

    return asyncio.run(upload.receive(chunks(), name, announced, folder))


def test_an_upload_lies_in_the_folder_of_its_visitor_whatever_its_name(tmp_path):
    file = received(PNG, "../../../outside.png", tmp_path / "private")
    assert file == tmp_path / "private" / "radiograph.png", "its name may be a person's"
    assert file.read_bytes() == PNG
    assert (tmp_path / "private").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("name", "kept"),
    [("Doe^John.DCM", "radiograph.dcm"), ("x.nii.gz", "radiograph.nii.gz"), ("IM0001", "radiograph")],
)
def test_the_stored_name_tells_the_kind_only(name, kept):
    assert upload.stored_name(name) == kept


def test_an_upload_that_takes_too_long_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "SECONDS", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield PNG
        await asyncio.sleep(30)

    with pytest.raises(OutputError, match="took more than"):
        asyncio.run(upload.receive(slow(), "radiograph.png", None, tmp_path / "private"))


def test_an_upload_of_which_nothing_arrives_any_more_makes_way_and_a_slow_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "PAUSE_SECONDS", 0.5)

    async def with_pauses(*seconds: float) -> AsyncIterator[bytes]:
        for pause in seconds:
            await asyncio.sleep(pause)
            yield PNG

    with pytest.raises(OutputError, match="nothing came"):
        asyncio.run(upload.receive(with_pauses(0.0, 30.0), "a.png", None, tmp_path / "stalled"))
    asyncio.run(upload.receive(with_pauses(*[0.1] * 8), "b.png", None, tmp_path / "slow"))


def test_too_much_is_refused_as_announced_and_as_received(tmp_path):
    with pytest.raises(upload.TooLarge, match="at most 50 MB, got 60 MB"):
        received(b"", "radiograph.png", tmp_path / "announced", 60 << 20)
    assert not (tmp_path / "announced").exists()
    with pytest.raises(upload.TooLarge, match="at most 50 MB, got more"):
        received(bytes((50 << 20) + 1), "radiograph.png", tmp_path / "unannounced")


def test_an_upload_that_breaks_off_is_refused(tmp_path):
    with pytest.raises(Exception, match="broke off"):
        received(PNG, "radiograph.png", tmp_path / "private", len(PNG) + 1)


@pytest.mark.parametrize("name", ["radiograph", "1.2.840.113619.2.5", "cxr.bak"])
def test_an_image_without_its_suffix_is_known_by_its_bytes(name, tmp_path):
    assert received(PNG, name, tmp_path / "private").name == "radiograph"


@pytest.mark.parametrize(
    "name",
    [
        "radiograph.exe",
        "radiograph",
        "radiograph.svg",
        "radiograph.html",
        "radiograph.mhd",
        "radiograph.nhdr",
        "radiograph.zip",
    ],
)
def test_another_kind_of_file_is_refused(name, tmp_path):
    with pytest.raises(InputError, match="Expected DICOM, PNG"):
        received(b"<html></html>", name, tmp_path / "private")


@pytest.mark.parametrize(
    ("name", "header"),
    [
        (
            "radiograph.mha",
            b"NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = /etc/passwd\n",
        ),
        ("radiograph.mha", b"NDims = 2\nComment = ElementDataFile=LOCAL\nElementDataFile: ../other.raw\n"),
        ("radiograph.nrrd", b"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\ndata file: /etc/passwd\n\n"),
        ("radiograph.nrrd", b"NRRD0004\ntype: uchar\nDatafile: LIST\n/etc/passwd\n\n"),
    ],
)
def test_a_header_that_takes_its_pixels_from_another_file_is_refused(name, header, tmp_path):
    with pytest.raises(InputError, match="from another"):
        received(header, name, tmp_path / "private")


def test_a_metaimage_with_its_pixels_inside_is_taken(tmp_path):
    header = b"NDims = 2\nDimSize = 4 4\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n" + bytes(16)
    assert received(header, "radiograph.mha", tmp_path / "private").is_file()


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_pair_is_sent_as_one_and_read_as_two_files(suffix, tmp_path):
    grey = np.arange(160 * 128, dtype=np.int16).reshape(128, 160)
    nib.save(nib.Nifti1Pair(grey[..., None], np.diag([-2.2, -2.2, 1.0, 1.0])), tmp_path / f"x.hdr{suffix}")
    header, data = ((tmp_path / f"x.{half}{suffix}").read_bytes() for half in ("hdr", "img"))

    async def chunks() -> AsyncIterator[bytes]:
        yield header + data

    name, folder = f"Doe.hdr{suffix}", tmp_path / "private"
    file = asyncio.run(upload.receive(chunks(), name, None, folder, len(header)))

    assert file == folder / f"radiograph.hdr{suffix}"
    assert (folder / f"radiograph.img{suffix}").read_bytes() == data
    assert read_radiograph(file).spacing_mm == pytest.approx((2.2, 2.2))


@pytest.mark.parametrize("name", ["x.hdr", "x.img", "x.img.gz"])
def test_half_a_pair_asks_for_the_other(name, tmp_path):
    with pytest.raises(InputError, match="Expected header and data file of a pair") as caught:
        received(bytes(400), name, tmp_path / "private")
    assert ".hdr and .img together" in caught.value.hint


@pytest.mark.parametrize(
    ("announced", "expected"), [("348", 348), ("", 0), ("-1", 0), ("1e3", 0), ("x", 0), ("9" * 5000, 0)]
)
def test_only_a_number_of_bytes_that_an_upload_may_have_is_a_headers(announced, expected):
    assert upload.header_bytes(announced) == expected
