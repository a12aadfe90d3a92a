"""XctDiff and its rivals from DICOM to Table 1 and Figure 4, killed and gone on with."""

import csv
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("diffdrr", reason="computed radiographs come with the training extra")

from ct_series import phantom, write_series
from test_paper_chain import ENVIRONMENT, chain, run_until
from test_segmentation import write_spleens

from xray2ctpa_core.data.index import read_index
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.pipelines.loading import load_part
from xray2ctpa_core.volume import Volume

SYSTEMS = [
    "mean volume of training", "nearest radiograph of training", "ReconNet", "X2CT-CNN", "X2CT-GAN",
    "XctDiff", "codec:VQGAN",
]  # fmt: skip


def write_dicom_cts(folder: Path) -> Path:
    """Six phantoms with a ball of another density, one DICOM series each; the last two are for testing."""
    with_splits = [["volume", "id", "patient", "split"]]
    for number in range(6):
        volume = phantom((12, 32, 32), clot_hu=40.0 + 100 * number)
        hu = volume.array + np.random.default_rng(number).normal(0, 3, volume.array.shape)
        write_series(folder / f"s{number}", Volume(hu.astype(np.float32), volume.affine))
        with_splits.append([f"s{number}", f"s{number}", f"p{number}", "train" if number < 4 else "test"])
    with (folder / "studies.csv").open("w", newline="") as file:
        csv.writer(file).writerows(with_splits)
    return folder


@pytest.mark.slow
def test_from_dicom_to_table_1_with_all_systems_killed_and_gone_on_with(
    repository: Path, tmp_path: Path
) -> None:
    out, log = tmp_path / "run", tmp_path / "log.txt"
    command = chain(repository, "xctdiff-smoke", write_dicom_cts(tmp_path / "data"), out)
    run_until(command, out / "vqgan" / "checkpoint" / "3", log)
    run_until(command, out / "table-1" / "rows.jsonl", log)
    assert not (out / "table-1" / "table.md").exists()
    with log.open("ab") as file:
        assert subprocess.run(command, stdout=file, stderr=file, env=ENVIRONMENT).returncode == 0, (
            log.read_text()[-3000:]
        )
    rows = [json.loads(line) for line in (out / "table-1" / "rows.jsonl").read_text().splitlines()]
    assert sorted((row["system"], row["study"]) for row in rows) == sorted(
        (system, study) for system in SYSTEMS for study in ("s4", "s5")
    )
    lines = (out / "table-1" / "table.md").read_text().splitlines()
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == SYSTEMS
    steps = [json.loads(line)["step"] for line in (out / "vqgan" / "log.jsonl").read_text().splitlines()]
    assert steps[-1] == 8
    used = json.loads((out / "vqgan" / "codebook.json").read_text())
    assert used["vectors"] == 4 * 8**3
    assert 0 < used["codes_used"] <= 1
    figure_4 = ["reconstructed", "pretraining", "pretraining-reconstructed", "segmentation",
                "segmentation-reconstructed", "segmentation-from-scratch", "figure-4"]  # fmt: skip
    labelled = write_spleens(tmp_path / "labelled", 4)
    short = ["reconstructed.sampling_steps=1", "pretraining.steps=2", "segmentation.steps=2"]
    short += ["segmentation.folds=2", f"run.segmented={labelled}"]
    with log.open("ab") as file:
        again = subprocess.run(
            [*command, "--only", *figure_4, "--set", *short], stdout=file, stderr=file, env=ENVIRONMENT
        )
    assert again.returncode == 0, log.read_text()[-3000:]
    studies = read_index(out / "reconstructed" / "volumes" / "XctDiff" / "studies.csv")
    assert [study.id for study in studies] == ["s0", "s1", "s2", "s3"]
    assert all(read_volume(study.volume).array.shape == (32, 32, 32) for study in studies if study.volume)
    own = read_volume(out / "ctpa" / "cases" / "s0" / "ctpa-0.nii.gz").affine
    np.testing.assert_allclose(read_volume(studies[0].volume or Path()).affine, own, atol=1e-3)
    assert len((out / "reconstructed" / "table.md").read_text().splitlines()) == 3
    lines = (out / "figure-4" / "table.md").read_text().splitlines()
    arms = ["from scratch", "real CTs", "reconstructed CTs"]
    assert [line.split(" | ")[:2] for line in lines[2:]] == [[f"| {arm}", "4"] for arm in arms]
    encoder = load_part(out / "prior-denoiser" / "encoder")
    with torch.no_grad():
        assert encoder.condition(torch.rand(1, 1, 32, 32)).spatial.shape == (1, 4, 8, 8, 8)
