"""`xray2ctpa view` refuses in words what it cannot show, and needs its extra only when it runs."""

import json
import subprocess
import sys

import pytest
from cli_runs import ENVIRONMENT, assert_refused, xray2ctpa

from xray2ctpa_core.cli import view
from xray2ctpa_core.cli.main import main


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(view, "VIEWER_PACKAGES", ("slicer_that_is_not_there",))
    assert main(["view"]) == 2
    said = capsys.readouterr().err
    assert "slicer_that_is_not_there" in said
    assert "[viewer]" in said


def test_the_demonstration_says_so_before_it_computes(monkeypatch, capsys):
    monkeypatch.setattr(view, "VIEWER_PACKAGES", ("slicer_that_is_not_there",))
    assert main(["demo", "--view"]) == 2
    assert "[viewer]" in capsys.readouterr().err


def test_the_command_line_needs_no_extra_to_start():
    code = (
        "import sys; from xray2ctpa_core.cli import main;"
        "print(sorted({'slicer', 'vtk', 'trame_slicer', 'aiohttp', 'torch'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True, timeout=120
    )
    assert run.stdout.strip() == "[]"


def test_what_cannot_be_shown_is_refused(tmp_path, small_result):
    assert_refused(xray2ctpa("view", "absent", cwd=tmp_path), 2, "absent", "does not exist")
    assert_refused(
        xray2ctpa("view", "--cxr", small_result / "ctpa.nii.gz", cwd=tmp_path), 2, "beside a result folder"
    )
    assert_refused(xray2ctpa("view", small_result, "--truth", small_result / "result.json", cwd=tmp_path), 2)
    record = json.loads((small_result / "result.json").read_text())
    (small_result / "result.json").write_text(json.dumps(record | {"schema_version": "0.1"}))
    assert_refused(xray2ctpa("view", small_result, cwd=tmp_path), 2, "schema_version")


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(tmp_path, host):
    assert_refused(xray2ctpa("view", "--host", host, cwd=tmp_path), 2, "Expected to listen at", host)
