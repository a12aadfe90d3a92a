"""`xray2ctpa evaluate` measures a converted bundle: on its own grid, with its classifier."""

import json
from pathlib import Path

import pytest
from evaluation_cohort import write_patient
from published_system import CONFIGURATIONS, radiograph_encoder, stable_diffusion_codec, trainer_checkpoint

from xray2ctpa_core.cli.main import main

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")


@pytest.mark.slow
def test_a_converted_bundle_is_evaluated_on_virtual_patients(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["convert", "x-ray2ctpa", str(trainer_checkpoint(tmp_path, **CONFIGURATIONS[1]))]
    words += [str(tmp_path / "bundle"), "--codec", str(stable_diffusion_codec(tmp_path))]
    words += ["--encoder", str(radiograph_encoder(tmp_path)), "--latent-grid", "16", "32", "32"]
    assert main(words) == 0
    for number in range(4):
        write_patient(tmp_path / "test", number, pe=number % 2 == 0, heart=6)
    for number, heart in enumerate((10, 8)):
        write_patient(tmp_path / "train", number, pe=False, heart=heart)
    words = ["evaluate", str(tmp_path / "test"), "--train", str(tmp_path / "train")]
    words += ["--bundle", str(tmp_path / "bundle"), "--out", str(tmp_path / "out"), "--steps", "2"]
    words += ["--images", "1", "--multi", "1", "--samples", "2", "--auroc", "4"]
    assert main(words) == 0
    summary = json.loads((tmp_path / "out" / "evaluation.json").read_text(encoding="utf-8"))
    methods = [row["method"] for row in summary["images"]]
    assert {"one sample", "mean of 2 samples", "autoencoder reconstruction"} < set(methods)
    assert 0 < summary["images"][methods.index("one sample")]["psnr"]["estimate"] < 20  # random weights
    sources = {row["score"] for row in summary["classification"]}
    assert "generated latents" in sources
    assert "radiograph alone" not in sources  # the published encoder has no PE head
    assert "| bundle | one sample " in capsys.readouterr().out
