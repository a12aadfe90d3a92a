"""Bundle 0.7.0, of another network than today's, gives the voxels that its own code gives."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runs import CORE

from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.pipelines.bundle import read_bundle_json, write_bundle_json

#: The commit that has bundle 0.7.0 and its code.
COMMIT = "9ea65e1"


@pytest.fixture
def of_then(repository: Path, tmp_path: Path) -> Path:
    """The core of that commit, or a visible skip where the history is not there."""
    command = ["git", "-C", str(repository), "archive", COMMIT, "X-ray2CTPACore/xray2ctpa_core"]
    packed = subprocess.run(command, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"no commit {COMMIT} in this clone, whose history is cut off")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(tmp_path / "then", filter="data")
    return tmp_path / "then" / "X-ray2CTPACore"


@pytest.mark.slow
def test_bundle_0_7_0_gives_the_voxels_of_its_own_code(of_then: Path, tmp_path: Path) -> None:
    """Without alignment, which amplifies rounding (docs/experiments/default.md)."""
    bundle = tmp_path / "bundle"
    shutil.copytree(of_then / "xray2ctpa_core" / "bundles" / "virtual-thorax", bundle)
    info = read_bundle_json(bundle)
    assert info.version == "0.7.0"
    write_bundle_json(bundle, replace(info, sampling=replace(info.sampling, alignment=0)))
    made = []
    for core in (of_then, CORE):
        out = tmp_path / str(len(made))
        words = ["generate", SAMPLE_CXR, "--bundle", bundle, "--seed", 3, "--device", "cpu", "--out", out]
        subprocess.run(
            [sys.executable, "-m", "xray2ctpa_core", *map(str, words), "--precision", "fp32", "--force"],
            env=os.environ | {"PYTHONPATH": str(core), "HF_HUB_OFFLINE": "1"},
            cwd=tmp_path,
            check=True,
        )
        made.append((read_volume(out / result_files.CTPA).array, result_files.read_record(out)["pe"]))
    (then, score_then), (now, score_now) = made
    difference = np.abs(then.astype(float) - now)
    assert then.std() > 100
    assert difference.max() <= 1
    assert difference.mean() < 1e-3
    assert score_now["probability"] == pytest.approx(score_then["probability"], abs=1e-4)
