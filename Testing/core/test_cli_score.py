"""`xray2ctpa score`: a line a file from the radiograph alone, in the order given, failures beside it."""

import json
import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from xray2ctpa_core.cli.main import main
from xray2ctpa_core.cli.score import in_order, scorer, timing
from xray2ctpa_core.constants import DEFAULT_BUNDLE
from xray2ctpa_core.diffusion.embedding_sampling import prior_scheduler
from xray2ctpa_core.diffusion.latent_scaling import LatentScaling
from xray2ctpa_core.diffusion.prior_readout import PriorReadout
from xray2ctpa_core.generation.samples import SAMPLE_CXR
from xray2ctpa_core.io import result_files
from xray2ctpa_core.io.radiograph import read_radiograph
from xray2ctpa_core.io.volumes import read_volume
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.matching_layer import MatchingLayer
from xray2ctpa_core.models.denoisers.prior import EmbeddingPrior
from xray2ctpa_core.models.encoders.published import PublishedEncoder
from xray2ctpa_core.mrml.record import read_record, sentences
from xray2ctpa_core.pipelines import prior_opinion
from xray2ctpa_core.pipelines.bundle import read_bundle_json, write_bundle_json
from xray2ctpa_core.pipelines.bundle_opinion import SECOND_OPINION_FOLDER
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.pipelines.prior_opinion import load_prior_opinion, save_prior_opinion
from xray2ctpa_core.pipelines.second_opinion import OpinionSettings
from xray2ctpa_core.volume import FrontalFrame, Radiograph


@pytest.fixture(scope="module")
def prior_bundle(pipeline_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline with a tiny prior."""
    folder = tmp_path_factory.mktemp("prior") / "bundle"
    shutil.copytree(pipeline_bundle, folder)
    torch.manual_seed(0)
    encoder = PublishedEncoder("small", {"init_features": 8, "growth_rate": 4, "block_config": (2, 2, 2)}, 12)
    prior = EmbeddingPrior(dim=12, depth=1, heads=2, dim_head=8, num_timesteps=4, max_text_len=0, ff_mult=1.0)
    scaling = LatentScaling((0.5,) * 12, (2.0,) * 12)
    readout = PriorReadout(prior.eval(), MatchingLayer(12), prior_scheduler(4), scaling, scaling)
    settings = OpinionSettings(0.25, 2.0, 0.1, True, "frame", 32)
    student = EmbeddingClassifier.on(encoder, 12).eval()
    save_prior_opinion(folder / SECOND_OPINION_FOLDER, student, readout, settings)
    write_bundle_json(folder, read_bundle_json(folder))
    return folder


def lines_of(arguments: list[object], capsys: pytest.CaptureFixture[str]) -> tuple[int, list[str], str]:
    code = main(["score", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err


def test_every_file_has_its_line_in_order_and_failures_are_said_beside(
    pipeline_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no image")
    files = [SAMPLE_CXR, tmp_path / "text.png", SAMPLE_CXR]
    code, lines, said = lines_of([*files, "--bundle", pipeline_bundle, "--force"], capsys)
    assert code == 2
    assert lines[0].split("\t") == ["probability", "threshold", "call", "calibrated", "file"]
    assert len(lines) == 3
    assert lines[1] == lines[2]
    probability, threshold, call, calibrated, file = lines[1].split("\t")
    assert (threshold, calibrated, file) == ("0.500", "uncalibrated", str(SAMPLE_CXR))
    assert call == ("positive" if float(probability) >= 0.5 else "negative")
    assert "text.png" in said


def test_without_a_prior_the_score_is_the_radiograph_encoders(
    pipeline_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, lines, _ = lines_of([SAMPLE_CXR, "--bundle", pipeline_bundle, "--json", "--force"], capsys)
    content = json.loads(lines[0])
    opinion = content["pe"]["second_opinion"]
    pipeline = XRay2CTPAPipeline.from_pretrained(pipeline_bundle)
    from xray2ctpa_core.models.framing.radiograph_reading import frame_radiograph
    from xray2ctpa_core.preprocessing.frame import frame_image

    reading = frame_radiograph(pipeline.lung_locator, read_radiograph(SAMPLE_CXR))
    size = pipeline.bundle.cxr.frame_pixels
    image = torch.from_numpy(frame_image(reading.radiograph.pixels, reading.frame, size))
    expected = float(pipeline.classify_radiograph(image[None, None]).sigmoid())
    assert opinion["probability"] == pytest.approx(expected, abs=1e-6)
    assert "no volume" in opinion["rests_on"]
    assert content["input"]["sha256"] == read_radiograph(SAMPLE_CXR).sha256


def test_a_bundle_with_a_prior_scores_by_it_with_its_own_calibration(
    prior_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, lines, _ = lines_of([SAMPLE_CXR, "--bundle", prior_bundle, "--json", "--force"], capsys)
    opinion = json.loads(lines[0])["pe"]["second_opinion"]
    assert (opinion["threshold"], opinion["calibrated"]) == (0.25, True)
    assert "diffusion prior" in opinion["rests_on"]
    reader = load_prior_opinion(prior_bundle / SECOND_OPINION_FOLDER)
    image = torch.rand(1, 1, 32, 32)
    expected = torch.sigmoid(2 * reader.logits(image) + 0.1)
    assert reader.score(image).probability == pytest.approx(float(expected), abs=1e-6)


def test_a_score_does_not_hang_on_its_batch_and_is_the_same_again(prior_bundle: Path) -> None:
    reader = load_prior_opinion(prior_bundle / SECOND_OPINION_FOLDER)
    images = torch.rand(3, 1, 32, 32)
    together = reader.logits(images)
    torch.testing.assert_close(together[1:2], reader.logits(images[1:2]), rtol=1e-4, atol=1e-5)
    assert torch.equal(together, reader.logits(images))
    assert len(set(together.tolist())) == 3


@pytest.mark.parametrize("kind", ["head", "prior"])
def test_maps_show_where_on_the_radiograph_a_score_rests(
    pipeline_bundle: Path,
    prior_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: str,
) -> None:
    bundle = {"head": pipeline_bundle, "prior": prior_bundle}[kind]
    code, _, said = lines_of([SAMPLE_CXR, "--bundle", bundle, "--force", "--maps", tmp_path / "maps"], capsys)
    assert code == 0, said
    (picture,) = (tmp_path / "maps").iterdir()
    assert picture.name == f"{SAMPLE_CXR.stem}-gradcam.png"
    height, width = read_radiograph(SAMPLE_CXR).pixels.shape
    with Image.open(picture) as image:
        assert image.width / (image.height - 28) == pytest.approx(width / height, rel=0.01)


def test_maps_of_files_with_one_name_are_all_written(
    pipeline_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    files = [shutil.copy(SAMPLE_CXR, tmp_path / name) for name in ("x.png", "a/X.png")]
    words = [*files, files[0], "--bundle", pipeline_bundle, "--force", "--maps", tmp_path / "new" / "maps"]
    code, lines, said = lines_of(words, capsys)
    assert (code, len(lines), said) == (0, 4, "")
    names = sorted(path.name for path in (tmp_path / "new" / "maps").iterdir())
    assert names == ["X-2-gradcam.png", "x-3-gradcam.png", "x-gradcam.png"]


def test_a_place_where_no_map_can_be_is_said_once_before_any_file(
    pipeline_bundle: Path, tmp_path: Path, read_only_place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", read_only_place):
        words = [SAMPLE_CXR, SAMPLE_CXR, "--bundle", pipeline_bundle, "--force", "--maps", place]
        code, lines, said = lines_of(words, capsys)
        assert (code, lines) == (2, [])
        assert said.startswith(f"Error: Expected a place to write the result to, got {place}")
        assert said.count("Expected a place") == 1


def test_maps_of_a_network_without_a_layer_of_maps_are_refused_before_any_file(
    prior_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prior_opinion, "GRADCAM_LAYERS", {})  # as for BiomedCLIP and DINOv2
    code, lines, said = lines_of([SAMPLE_CXR, "--bundle", prior_bundle, "--maps", tmp_path / "maps"], capsys)
    assert (code, lines) == (2, [])
    assert "Leave out --maps" in said
    assert not (tmp_path / "maps").exists()


def test_a_name_with_a_line_end_keeps_to_its_line(
    pipeline_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shutil.copy(SAMPLE_CXR, tmp_path / "Röntgen\n1\t.png")
    _, lines, _ = lines_of([file, "--bundle", pipeline_bundle, "--force"], capsys)
    assert len(lines) == 2
    assert lines[1].split("\t")[4].endswith("Röntgen\\n1\\t.png")


def test_an_unforeseen_error_of_one_file_leaves_the_others_their_lines(
    pipeline_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def read(path: Path) -> Radiograph:
        if path.name == "odd":
            raise ZeroDivisionError("no spacing")
        return read_radiograph(path)

    monkeypatch.setattr("xray2ctpa_core.io.radiograph.read_radiograph", read)
    words = [SAMPLE_CXR, "odd", SAMPLE_CXR, "--bundle", pipeline_bundle, "--force"]
    code, lines, said = lines_of(words, capsys)
    assert (code, len(lines)) == (2, 3)
    assert "odd: Unexpected ZeroDivisionError: no spacing" in said


def test_a_bundle_that_scores_no_radiograph_is_refused_with_the_reason(
    converted: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    code, lines, said = lines_of([SAMPLE_CXR, "--bundle", converted["whole"]], capsys)
    assert (code, lines) == (3, [])
    assert "has no prior, and its PublishedEncoder has none" in said
    assert "defect" not in said


def test_what_is_no_frontal_chest_radiograph_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (128, 128)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    code, lines, said = lines_of([tmp_path / "noise.png"], capsys)
    assert (code, len(lines)) == (4, 1)
    assert "frontal chest radiograph" in said
    assert "--force" in said


def test_generate_gives_the_priors_opinion_beside_the_volumes_score(
    prior_bundle: Path, tmp_path: Path
) -> None:
    words = ["generate", str(SAMPLE_CXR), "--bundle", str(prior_bundle), "--steps", "1", "--force"]
    assert main([*words, "--out", str(tmp_path / "result")]) == 0
    pe = json.loads((tmp_path / "result" / "result.json").read_text())["pe"]
    opinion = pe["second_opinion"]
    assert opinion["positive"] is (opinion["probability"] >= opinion["threshold"])
    assert opinion["probability"] != pe["probability"]
    assert opinion["gradcam"] == result_files.RADIOGRAPH_GRADCAM
    drawn = read_volume(tmp_path / "result" / opinion["gradcam"])
    assert drawn.array.shape == (1, *read_radiograph(SAMPLE_CXR).pixels.shape)  # smaller than MAP_PIXELS
    assert drawn.array.dtype == np.float32
    assert 0 <= drawn.array.min() < drawn.array.max() <= 1
    with Image.open(tmp_path / "result" / "preview.png") as picture:
        assert picture.height == 1340  # a row of 310 pixels more than without
    said = sentences(read_record(tmp_path / "result"))
    assert any(line.startswith(f"Second opinion {opinion['probability']:.2f}") for line in said)
    pipe = XRay2CTPAPipeline.from_pretrained(prior_bundle)
    pipe.save_pretrained(tmp_path / "saved")
    again = XRay2CTPAPipeline.from_pretrained(tmp_path / "saved")
    radiograph = read_radiograph(SAMPLE_CXR)
    frame = FrontalFrame(0.0, 0.0, 300.0)
    assert again.second_opinion is not None
    assert pipe.second_opinion is not None
    assert again.second_opinion.score(radiograph, frame) == pipe.second_opinion.score(radiograph, frame)


def test_a_result_without_the_map_of_its_opinion_is_made_again(prior_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "result"
    words = ["generate", str(SAMPLE_CXR), "--bundle", str(prior_bundle), "--steps", "1", "--force", "--out"]
    assert main([*words, str(out)]) == 0
    written = (out / "result.json").stat().st_mtime_ns
    assert main([*words, str(out)]) == 0
    assert (out / "result.json").stat().st_mtime_ns == written, "it is complete"
    (out / result_files.RADIOGRAPH_GRADCAM).unlink()
    assert main([*words, str(out)]) == 2, "a folder with something else in it is not overwritten"


def test_an_opinion_of_a_transformer_has_no_map_and_the_result_says_so(
    prior_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prior_opinion, "GRADCAM_LAYERS", {})  # as for BiomedCLIP and DINOv2
    words = ["generate", str(SAMPLE_CXR), "--bundle", str(prior_bundle), "--steps", "1", "--force"]
    assert main([*words, "--out", str(tmp_path / "result")]) == 0
    record = read_record(tmp_path / "result")
    assert record["pe"]["second_opinion"]["gradcam"] is None
    assert not (tmp_path / "result" / result_files.RADIOGRAPH_GRADCAM).exists()
    assert "laid over the radiograph" not in " ".join(sentences(record))
    with Image.open(tmp_path / "result" / "preview.png") as picture:
        assert picture.height == 1030


def test_a_further_file_takes_a_fraction_of_a_second_of_one_core() -> None:
    """Measured 0.06 to 0.10 s of CPU on a busy machine; a volume takes a hundred times as long."""
    score = scorer(DEFAULT_BUNDLE, force=True)
    score(SAMPLE_CXR)
    started = time.process_time()
    scored = list(in_order(score, [SAMPLE_CXR] * 4))
    assert all(one.error is None for one in scored)
    assert (time.process_time() - started) / len(scored) < 1.0


def test_timing_says_on_stderr_how_long_loading_and_a_file_took(
    pipeline_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [SAMPLE_CXR, SAMPLE_CXR, "--bundle", pipeline_bundle, "--force", "--timing"]
    code, lines, said = lines_of(words, capsys)
    assert (code, len(lines)) == (0, 3)
    assert re.search(r"loading [\d.]+ s; 2 files in [\d.]+ s, [12] at a time: \d+ ms a file", said)
    assert timing(4, 1.5, 0.2, 0.3).endswith(": 50 ms a file, 75 ms of processor time a file")
