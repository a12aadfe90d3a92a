"""The step tables from evaluated arms to files."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stage_scripts import stage
from table_arms import write_arm, write_generator

pytest.importorskip("matplotlib", reason="the training extra is not installed")
pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")


@pytest.fixture
def arms(tmp_path: Path) -> Path:
    """Two classifiers, one with features, and a generator with Grad-CAM maps that also predicts."""
    root = tmp_path / "arms"
    write_arm(root / "latent", "latent", patients=60, folds=6)
    write_arm(root / "cxr-only", "cxr-only", patients=60, folds=6, strength=0.3, seed=1)
    write_arm(root / "generated", "generated", patients=60, folds=6, strength=0.8, seed=2)
    write_generator(root / "generated", "generated", patients=3, gradcam=True)
    labels = np.arange(20) % 4 // 2
    vectors = np.random.default_rng(0).normal(size=(20, 4)) + labels[:, None]
    np.savez(
        root / "latent" / "features.npz", features=vectors, patient=np.arange(20).astype(str), label=labels
    )
    return root


@pytest.mark.slow
def test_the_papers_tables_are_filled_from_the_arms(repository, arms, tmp_path, capsys):
    out = tmp_path / "out"
    assert stage(repository, "tables", out, f'arms=["{arms}"]', "plates=1") == 0
    with (out / "table-1.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["arm"]: row for row in csv.DictReader(file)}
    assert rows["chest radiograph alone"]["patients"] == "60 (30 with PE)"
    assert rows["CTPA, slice CNN and LSTM, 512 slices"]["patients"] == "not measured"
    assert rows["CTPA, slice CNN and LSTM, 512 slices"]["reported"] == "AUC 0.90"
    text = (out / "tables.md").read_text(encoding="utf-8")
    assert [line.split(":")[0] for line in text.splitlines() if line.startswith("## ")] == [
        f"## Table {number}" for number in range(1, 8)
    ]
    assert "no FVD" in text
    assert "LPIPS was not measured" in text
    assert text.strip() in capsys.readouterr().out.replace("\n\n\n", "\n\n")
    pictures = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    for name in ("table-1.png", "table-7.png", "roc-1.png", "calibration-1.png", "embedding-features.png"):
        assert name in pictures
    assert "embedding-volumes.png" in pictures
    assert [name for name in pictures if name.startswith("plates/")] == ["plates/generated-p000.png"]
    for name in pictures:
        grey = np.asarray(Image.open(out / name).convert("L"))
        assert min(grey.shape) > 150
        assert grey.std() > 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["arms=runs"], "arms: Input should be a valid tuple, got 'runs'"),
        (['arms=["absent"]'], "Expected arms=absent, got no such file or folder"),
        (['arms=["{arms}"]', "dataset=lidc"], "of the data set lidc, got none"),
        (['arms=["{arms}"]', "weights=absent"], "Expected weights=absent, got no such file or folder"),
    ],
)
def test_wrong_settings_are_one_line(repository, arms, tmp_path, capsys, settings, message):
    settings = [setting.format(arms=arms) for setting in settings]
    assert stage(repository, "tables", tmp_path / "out", *settings) == 2
    assert message in capsys.readouterr().err
