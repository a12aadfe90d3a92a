"""The page that leads from six pairs on disk to a generated volume: its commands, word for word."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ct_series import phantom, write_series
from io_radiographs import write_dicom

from xray2ctpa_core.io.volumes import read_volume


def blocks(page: str, language: str) -> list[str]:
    """The page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.M | re.S)


def write_pairs(table: str, data: Path) -> None:
    """The files that the page's table names, as DICOM; those with a "clot" are labelled 1."""
    data.mkdir()
    (data / "studies.csv").write_text(table)
    for number, row in enumerate(csv.DictReader(table.splitlines())):
        volume = phantom(clot_hu=60.0 + 20 * number + 400 * int(row["label"]))
        write_series(data / row["volume"], volume)
        radiograph = np.rint(volume.array[::-1].mean(1).clip(-1000, 200) + 1000).astype(np.uint16)
        write_dicom(data / row["radiograph"], np.kron(radiograph, np.ones((8, 4), np.uint16)))


@pytest.mark.slow
def test_the_commands_of_the_page_end_with_generated_volumes(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("diffdrr", reason="computed radiographs come with the training extra")
    page = (repository / "docs" / "train-on-your-data.md").read_text(encoding="utf-8")
    (table,) = blocks(page, "csv")
    write_pairs(table, tmp_path / "data")
    for folder in ("Training", "X-ray2CTPACore"):
        (tmp_path / folder).symlink_to(repository / folder)
    commands = "".join(blocks(page, "bash"))
    assert commands.count("Training/train.py") == 3
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1500,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step: generated -> runs/mine/generated" in done.stdout
    volumes = sorted((tmp_path / "runs" / "mine" / "generated" / "volumes").glob("*.nii.gz"))
    assert len(volumes) == 12, "two volumes of alternate slices a study"
    assert np.isfinite(read_volume(volumes[0]).array).all()
    assert "patient,real,generated" in done.stdout
    assert "Probability that the radiograph is left out" in done.stdout, "the settings are explained"


def test_the_pages_recipe_is_one(repository: Path, tmp_path: Path) -> None:
    from stage_scripts import runner

    page = (repository / "docs" / "train-on-your-data.md").read_text(encoding="utf-8")
    (recipe,) = blocks(page, "toml")
    mine = tmp_path / "mine.toml"
    mine.write_text(recipe.replace("smoke.toml", str(repository / "Training" / "recipes" / "smoke.toml")))
    words = [str(mine), "--data", str(tmp_path), "--out", str(tmp_path / "run"), "--dry-run"]
    assert runner(repository).main(None, words) == 0
