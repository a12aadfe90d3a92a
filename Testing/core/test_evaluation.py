import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from evaluation_cohort import GRID, ArithmeticPipeline, bundle, write_patient
from PIL import Image

from xray2ctpa_core.config import from_mapping
from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.errors import ConfigError, InputError
from xray2ctpa_core.evaluation.baselines import INDEX_PIXELS, Baselines
from xray2ctpa_core.evaluation.config import EvaluationConfig
from xray2ctpa_core.evaluation.lobes import clot_lobe_share
from xray2ctpa_core.evaluation.pair import evaluate_pair
from xray2ctpa_core.evaluation.patients import CohortPatient, cohort_patients, seed_of
from xray2ctpa_core.evaluation.protocol import weights_id
from xray2ctpa_core.evaluation.radiographs import evaluate_radiographs
from xray2ctpa_core.evaluation.report import markdown
from xray2ctpa_core.evaluation.run import evaluate, labels
from xray2ctpa_core.evaluation.store import RowStore
from xray2ctpa_core.evaluation.summary import summarise
from xray2ctpa_core.io.provenance import file_sha256
from xray2ctpa_core.pipelines.bundle import PEOperatingPoint

pytest.importorskip("efficientnet_lite_pytorch", reason="the training extra is not installed")

CONFIG = EvaluationConfig(images=3, multi=2, samples=4, auroc=4)


@pytest.fixture(scope="module")
def cohorts(tmp_path_factory) -> tuple[Path, Path]:
    """Four unseen patients with narrow hearts, two with PE; training patients of width 10, 6 and 8."""
    test, train = tmp_path_factory.mktemp("unseen"), tmp_path_factory.mktemp("training")
    for number in range(4):
        write_patient(test, number, pe=number % 2 == 0, heart=6)
    for number, heart in enumerate((10, 6, 8)):
        write_patient(train, number, pe=False, heart=heart)
    return test, train


@pytest.fixture
def pipeline(cohorts) -> ArithmeticPipeline:
    """Its samples are the first unseen patient and noise."""
    return ArithmeticPipeline(cohort_patients(cohorts[0], "test")[0].hu)


def entry(summary, kind, **names):
    found = [e for e in summary[kind] if all(e[key] == value for key, value in names.items())]
    assert len(found) == 1
    return found[0]


def test_the_evaluation_measures_each_volume_against_the_patients_own(cohorts, pipeline):
    summary = evaluate(*cohorts, [pipeline], CONFIG)
    assert summary["frechet"] == []  # on demand
    one = entry(summary, "images", method="one sample")
    assert one["patients"] == 3
    # noise of 40 HU, clipped below at air, in a window of 1900 HU: just above 20 log10(1900 / 40) = 33.5 dB
    assert 33.5 < one["psnr"]["estimate"] < 35
    assert one["lung_dice"]["estimate"] > 0.99
    assert one["heart_dice"]["estimate"] > 0.9
    several = entry(summary, "images", method="mean of 4 samples")
    assert several["patients"] == 2
    # averaging 4 noises halves the error: 6 dB
    assert several["psnr"]["estimate"] - one["psnr"]["estimate"] == pytest.approx(6, abs=0.5)
    assert entry(summary, "images", method="the patient's own CT")["parallel_correlation"]["estimate"] > 0.85


def test_the_nearest_radiograph_belongs_to_the_patient_with_the_same_heart(cohorts, pipeline):
    summary = evaluate(*cohorts, [pipeline], CONFIG)
    nearest = entry(summary, "images", method="nearest other radiograph's volume")
    assert nearest["mae"]["estimate"] == 0
    assert nearest["ssim"]["estimate"] == pytest.approx(1)
    mean = entry(summary, "images", method="mean of other volumes")
    assert mean["mae"]["estimate"] > 0
    gain = entry(summary, "differences", method="one sample", minus="mean of other volumes")
    assert gain["mae"]["estimate"] == pytest.approx(
        entry(summary, "images", method="one sample")["mae"]["estimate"] - mean["mae"]["estimate"], abs=1e-6
    )


def test_sets_of_volumes_are_compared_on_demand_in_features_that_are_named(cohorts, pipeline, tmp_path):
    config = EvaluationConfig(images=3, multi=1, samples=2, auroc=0, metrics=("fvd", "fid"))
    summary = evaluate(*cohorts, [pipeline], config, out=tmp_path)
    # the nearest training patient has the same heart, so the same volume
    assert entry(summary, "frechet", method="nearest other radiograph's volume")["fvd"]["estimate"] == 0
    for metric in ("fvd", "fid"):
        one = entry(summary, "frechet", method="one sample")
        mean = entry(summary, "frechet", method="mean of other volumes")
        assert one[metric]["estimate"] > 0
        assert mean[metric]["estimate"] > 0
        assert one[metric]["n"] == 3
    assert [e for e in summary["frechet"] if e["method"] == "mean of 2 samples"] == []  # of 1 patient
    report = markdown(summary)
    assert "EfficientNet-Lite0 features; no FID" in report
    assert "no FVD" in report
    assert json.loads(json.dumps(summary)) == summary
    again = evaluate(*cohorts, [ArithmeticPipeline(None)], config, out=tmp_path)
    assert again["frechet"] == summary["frechet"]


def test_lpips_on_demand_needs_its_weights_and_says_where(cohorts, pipeline, tmp_path):
    config = EvaluationConfig(
        images=1, multi=1, samples=2, auroc=0, metrics=("lpips",), weights=str(tmp_path)
    )
    with pytest.raises(InputError, match=r"AlexNet's ImageNet weights at .*alexnet-owt"):
        evaluate(*cohorts, [pipeline], config)
    with pytest.raises(ConfigError, match="'fvd', 'fid', 'lpips' or 'planes', got 'FVD'"):
        from_mapping(EvaluationConfig, {"metrics": ("FVD",)})


def test_auroc_of_each_source_stands_beside_the_signs(cohorts, pipeline):
    summary = evaluate(*cohorts, [pipeline], CONFIG)
    signs = entry(summary, "classification", score="signs alone (ceiling)")
    assert signs["auroc"]["estimate"] == 1  # 0.50 and 0.52 with PE, 0.41 and 0.43 without
    # all four volumes and radiographs are alike, so no score tells them apart
    for score in ("real latents", "generated latents", "radiograph alone"):
        assert entry(summary, "classification", score=score)["auroc"]["estimate"] == 0.5
        assert entry(summary, "comparisons", score=score)["auroc"]["estimate"] == -0.5
        assert "signs" not in entry(summary, "classification", score=score), "no correlation of equal scores"


def test_what_a_score_knows_of_the_signs_stands_beside_its_auroc():
    odds = [-1.0, -0.2, 0.3, 0.9, 1.4]
    rows = [
        {
            "kind": "pe",
            "bundle": "b",
            "patient": str(n),
            "pe": n % 2,
            "sign_probability": 1 / (1 + np.exp(-o)),
        }
        | {"real": 2 * o + 1, "generated": 1 / (1 + np.exp(o)), "radiograph": None}
        | {"signs": o > 0, "heat": 0.5}
        for n, o in enumerate(odds)
    ]
    summary = summarise(rows, {"b": PEOperatingPoint(0.5, 1.0, 0.0, True)}, 2)
    assert entry(summary, "classification", score="real latents")["signs"]["estimate"] == pytest.approx(1)
    assert entry(summary, "classification", score="generated latents")["signs"]["estimate"] == pytest.approx(
        -1
    )
    assert "signs" not in entry(summary, "classification", score="signs alone (ceiling)")


def test_what_a_result_says_is_counted_at_the_bundles_threshold(cohorts):
    """All probabilities are the radiographs' mean grey, which is equal: the threshold calls everybody."""
    patient = cohort_patients(cohorts[0], "test")[0]
    template, probability = patient.hu, float(patient.radiograph.pixels.mean())
    info = bundle(pe=PEOperatingPoint(0.25, 1.0, 0.0, True))
    assert 0.25 < probability < 0.75
    summary = evaluate(*cohorts, [ArithmeticPipeline(template, info)], CONFIG)
    said = entry(summary, "decisions", bundle="arithmetic")
    assert (said["sensitivity"]["estimate"], said["specificity"]["estimate"]) == (1.0, 0.0)
    assert said["ppv"]["estimate"] == said["accuracy"]["estimate"] == 0.5
    assert said["brier"] == pytest.approx((probability**2 + (1 - probability) ** 2) / 2)
    assert said["ece"] == pytest.approx(abs(0.5 - probability))
    assert "Brier score" in markdown(summary)


def test_a_bundle_without_a_radiograph_classifier_has_no_such_row(cohorts, pipeline):
    pipeline.reads_radiographs = False
    scores = [e["score"] for e in evaluate(*cohorts, [pipeline], CONFIG)["classification"]]
    assert scores == ["real latents", "generated latents", "signs alone (ceiling)"]


def test_gradcam_on_the_clots_lobe_hits_wholly_and_chance_is_its_volume(cohorts, pipeline):
    (cam,) = evaluate(*cohorts, [pipeline], CONFIG)["gradcam"]
    assert cam["gradcam_in_target"]["n"] == 2
    assert cam["gradcam_in_target"]["estimate"] > 0.85  # tissue next to the lobe counts to it, too
    assert 0.2 < cam["gradcam_chance"]["estimate"] < 0.3
    assert cam["above_chance"]["estimate"] > 0.6


def test_heat_of_patients_with_and_without_signs_stands_side_by_side():
    heats = {"a": (True, 0.9), "b": (True, 0.7), "c": (False, 0.1), "d": (False, 0.2), "e": (False, 0.3)}
    logits = {"real": 0.0, "generated": 0.5, "radiograph": None, "sign_probability": 0.5}
    rows = [
        {"kind": "pe", "bundle": "b", "patient": name, "pe": n % 2, "signs": signs, "heat": heat} | logits
        for n, (name, (signs, heat)) in enumerate(heats.items())
    ]
    summary = summarise(rows, {"b": PEOperatingPoint(0.5, 1.0, 0.0, True)}, 2)
    (hottest,) = summary["hottest"]
    assert (hottest["signs"]["estimate"], hottest["signs"]["n"]) == (pytest.approx(0.8), 2)
    assert (hottest["no_sign"]["estimate"], hottest["no_sign"]["n"]) == (pytest.approx(0.2), 3)
    assert hottest["no_sign"]["lower"] < 0.2 < hottest["no_sign"]["upper"]


def test_the_report_says_how_hot_the_maps_get(cohorts, pipeline):
    text = markdown(evaluate(*cohorts, [pipeline], CONFIG))
    assert text.count("| 0.75 [-], n = 2 ") == 2


def test_heat_in_an_artery_counts_to_the_lobe_around_it(cohorts):
    organs = cohort_patients(cohorts[0], "test")[0].organs
    assert clot_lobe_share((organs == 8).astype(float), organs, [2]).in_target == 1
    uniform = clot_lobe_share(np.ones(GRID), organs, [2])
    assert uniform.in_target == pytest.approx(uniform.chance)


def test_where_any_map_is_right_there_is_no_share(cohorts):
    organs = cohort_patients(cohorts[0], "test")[0].organs
    assert clot_lobe_share(np.ones(GRID), organs, []) is None
    assert clot_lobe_share(np.ones(GRID), organs, [1, 2, 5]) is None


def test_a_second_run_takes_every_row_from_the_first(cohorts, pipeline, tmp_path):
    first = evaluate(*cohorts, [pipeline], CONFIG, out=tmp_path)
    assert pipeline.calls == [1, 4, 1, 4, 1, 1]  # the fourth patient for the PE score alone
    again = ArithmeticPipeline(pipeline.template)
    assert evaluate(*cohorts, [again], CONFIG, out=tmp_path) == first
    assert again.calls == []


def test_a_run_killed_in_mid_line_goes_on(cohorts, pipeline, tmp_path):
    whole = evaluate(*cohorts, [pipeline], CONFIG, out=tmp_path)
    rows = tmp_path / "rows.jsonl"
    text = rows.read_text(encoding="utf-8")
    rows.write_text(text[: len(text) // 2], encoding="utf-8")
    again = ArithmeticPipeline(pipeline.template)
    assert evaluate(*cohorts, [again], CONFIG, out=tmp_path) == whole
    assert 0 < len(again.calls) < 6
    assert all(json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines())


def test_other_weights_are_measured_anew_but_the_cards_numbers_do_not_matter(cohorts, pipeline, tmp_path):
    evaluate(*cohorts, [pipeline], CONFIG, out=tmp_path)
    carded = ArithmeticPipeline(pipeline.template, bundle(metrics={"psnr": 1.0}))
    evaluate(*cohorts, [carded], CONFIG, out=tmp_path)
    assert carded.calls == []
    other = ArithmeticPipeline(pipeline.template, bundle(files={"denoiser/model.safetensors": "1" * 64}))
    evaluate(*cohorts, [other], CONFIG, out=tmp_path)
    assert len(other.calls) == 6


def test_with_another_pe_classifier_the_volumes_stay_what_they_are(cohorts, pipeline, tmp_path):
    evaluate(*cohorts, [pipeline], CONFIG, out=tmp_path)
    files = pipeline.bundle.files | {"pe_classifier/model.safetensors": "1" * 64}
    other = ArithmeticPipeline(pipeline.template, bundle(files=files))
    evaluate(*cohorts, [other], CONFIG, out=tmp_path)
    assert other.calls == [1, 1, 1, 1], "PE score and Grad-CAM of the four patients"


def test_two_bundles_are_compared_with_each_other(cohorts, pipeline):
    other = ArithmeticPipeline(pipeline.template + 100, bundle("worse"))
    summary = evaluate(*cohorts, [pipeline, other], CONFIG)
    gap = entry(summary, "differences", method="one sample", minus="one sample of worse")
    assert gap["psnr"]["lower"] > 0
    assert labels([pipeline, other]) == ["arithmetic", "worse"]
    assert labels([pipeline, pipeline]) == [f"arithmetic {weights_id(pipeline.bundle)[:6]}"] * 2


def test_the_report_holds_every_volume_and_score_and_calls_nothing_lpips_without_it(cohorts, pipeline):
    summary = evaluate(*cohorts, [pipeline], CONFIG)
    text = markdown(summary)
    for phrase in ("one sample", "mean of 4 samples", "mean of other volumes", "signs alone (ceiling)"):
        assert f"| {phrase}" in text
    if not any("lpips" in e for e in summary["images"]):
        assert "LPIPS" not in text


def test_a_sample_that_was_not_aligned_stands_beside_the_aligned_one(cohorts, pipeline):
    pipeline.bundle = dataclasses.replace(
        pipeline.bundle, sampling=dataclasses.replace(pipeline.bundle.sampling, alignment=25)
    )
    config = EvaluationConfig(images=2, multi=0, samples=2, auroc=0)
    summary = evaluate(*cohorts, [pipeline], config)
    free = entry(summary, "images", method="one sample, not aligned")
    assert free["parallel_correlation"]["n"] == free["perspective_correlation"]["n"] == 2
    assert pipeline.alignments == [25, 0, 25, 0]
    assert pipeline.bundle.sampling.alignment == 25
    text = markdown(summary)
    assert "the patient's own CT is not its ceiling" in text
    assert "correlation with the radiograph, parallel rays" in text
    assert "correlation with the radiograph, perspective" in text


def test_patients_seen_in_training_are_refused(cohorts, pipeline):
    with pytest.raises(InputError, match="trained on"):
        evaluate(cohorts[0], cohorts[0], [pipeline], CONFIG)


def test_splits_of_one_folder_are_kept_apart(tmp_path):
    for number, split in enumerate(("train", "train", "test")):
        write_patient(tmp_path, number, pe=False, heart=4, split=split)
    assert [p.name for p in cohort_patients(tmp_path, "train")] == ["000000", "000001"]
    assert [p.name for p in cohort_patients(tmp_path, "test")] == ["000002"]
    with pytest.raises(InputError, match="test, train"):
        cohort_patients(tmp_path, "validation")


def test_patients_of_one_record_are_refused_for_the_rows_of_one_would_be_those_of_both(tmp_path):
    for number in range(2):
        write_patient(tmp_path, number, pe=False, heart=4)
        record = tmp_path / "patients" / f"{number:06d}" / "patient.json"
        record.write_text('{"pe": false}', encoding="utf-8")
    with pytest.raises(InputError, match=r"got the same one in .*000000 and .*000001"):
        cohort_patients(tmp_path, "test")


def test_one_class_alone_has_no_auroc(cohorts, pipeline):
    with pytest.raises(InputError, match="2 patients with and 2 without"):
        evaluate(*cohorts, [pipeline], EvaluationConfig(images=0, multi=0, auroc=1))


def test_impossible_counts_are_refused():
    with pytest.raises(ConfigError, match=r"samples: .* greater than or equal to 2, got 1"):
        from_mapping(EvaluationConfig, {"samples": 1})


def test_the_mean_is_the_mean_and_a_cache_of_other_patients_is_made_anew(cohorts, tmp_path):
    training = cohort_patients(cohorts[1], "train")
    cache = tmp_path / "baselines.npz"
    baselines = Baselines(training, "all", cache)
    np.testing.assert_allclose(baselines.mean, np.mean([p.hu for p in training], axis=0), atol=1e-3)
    assert Baselines(training[:1], "one", cache).mean.max() == 300
    image = training[2].frame_image(INDEX_PIXELS)
    assert Baselines(training, "all", cache).nearest(image).name == "000002"


def test_each_patient_has_a_seed_of_its_own(cohorts):
    first, second, *_ = cohort_patients(cohorts[0], "test")
    assert seed_of(first, 0) == seed_of(CohortPatient(first.folder), 0)
    assert len({seed_of(first, 0), seed_of(first, 1), seed_of(second, 0)}) == 3


def test_a_file_that_holds_no_rows_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text("not json\n", encoding="utf-8")
    with pytest.raises(InputError, match="line 1"):
        RowStore(tmp_path / "rows.jsonl")


def test_a_pair_made_of_the_pipelines_own_volume_is_matched_but_for_the_noise(cohorts, pipeline, tmp_path):
    hu = pipeline.template
    grey = (np.clip((hu + 200) / 700, 0, 1) * 255).astype(np.uint8)[::-1]
    np.savez(tmp_path / "ct.npz", ground_truth=grey, published_generated=grey)
    radiograph = cohort_patients(cohorts[0], "test")[0].folder / "cxr.png"
    (tmp_path / "cxr.png").write_bytes(radiograph.read_bytes())
    pair = evaluate_pair(tmp_path, [("ours", pipeline)], hu, samples=4)
    of = {(e["volume"], e["placed"], e["grey"]): e for e in pair["volumes"]}
    exact = of["mean training volume", "as is", "-200..500 HU"]
    assert exact["psnr"] > 50
    placed = of["mean training volume", "lungs", "-200..500 HU"]
    assert placed["psnr"] == pytest.approx(exact["psnr"], abs=0.5)
    assert 20 < of["ours: one sample", "as is", "-200..500 HU"]["psnr"] < 45


def test_a_smaller_chest_is_brought_onto_the_published_lungs(cohorts, pipeline, tmp_path):
    hu = pipeline.template
    smaller = np.pad(hu, ((2, 2), (4, 4), (4, 4)), constant_values=-1000.0)
    smaller[:2], smaller[-2:] = smaller[2], smaller[-3]
    grey = (np.clip((hu + 200) / 700, 0, 1) * 255).astype(np.uint8)[::-1]
    np.savez(tmp_path / "ct.npz", ground_truth=grey, published_generated=grey)
    radiograph = cohort_patients(cohorts[0], "test")[0].folder / "cxr.png"
    (tmp_path / "cxr.png").write_bytes(radiograph.read_bytes())
    pair = evaluate_pair(tmp_path, [], smaller)
    ours = [e for e in pair["volumes"] if e["volume"] == "mean training volume"]
    of = {(e["placed"], e["grey"]): e["psnr"] for e in ours}
    assert of["lungs", "-200..500 HU"] > of["as is", "-200..500 HU"] + 10


def test_a_folder_without_the_volumes_is_no_pair(tmp_path):
    with pytest.raises(InputError, match=r"ct\.npz"):
        evaluate_pair(tmp_path, [])


@pytest.mark.real
def test_the_published_volume_of_the_real_pair_has_its_stated_numbers(real_data):
    folder = real_data / "pairs" / "4015007720739"
    published = evaluate_pair(folder, [])["volumes"][0]
    assert published["psnr"] == pytest.approx(18.5, abs=0.05)
    assert published["slice_ssim"] == pytest.approx(0.53, abs=0.005)


@pytest.fixture
def radiographs(tmp_path) -> Path:
    """Five frontal radiographs in two folders, darker and darker, and a lateral one."""
    ramp = np.tile(np.linspace(0, 255, 64), (64, 1))
    for number in range(5):
        folder = tmp_path / "radiographs" / ("a" if number < 3 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * (ramp / 255) ** (1 + number)).astype(np.uint8)).save(folder / f"{number}.png")
    Image.fromarray(ramp.astype(np.uint8)).save(tmp_path / "radiographs" / "b" / "lateral.png")
    return tmp_path / "radiographs"


def test_real_radiographs_give_a_correlation_and_the_refused_ones_are_counted(radiographs, pipeline):
    found = evaluate_radiographs(radiographs, [("one", pipeline), ("two", pipeline)], count=20)
    assert (found["folder"], found["radiographs"]) == ("radiographs", 6)
    assert [e["accepted"] for e in found["bundles"]] == [5, 5]
    area = found["bundles"][0]["perspective_correlation"]
    means = [1 / (2 + number) for number in range(5)]  # of a ramp to that power
    assert area["estimate"] == pytest.approx(np.mean(means), abs=0.02)
    assert area["lower"] < area["estimate"] < area["upper"]


def test_radiographs_that_taught_a_bundle_are_left_out_whatever_their_name(radiographs, pipeline):
    known = radiographs / "a" / "1.png"
    pipeline.taught_radiographs = TaughtRadiographs("a hospital", {"another-name.png": file_sha256(known)})
    found = evaluate_radiographs(radiographs, [("one", pipeline)], count=20)
    assert (found["radiographs"], found["left_out"], found["bundles"][0]["accepted"]) == (5, 1, 4)
    for file in sorted(radiographs.rglob("*.png")):
        pipeline.taught_radiographs.sha256[file.name] = file_sha256(file)
    with pytest.raises(InputError, match="found 6 that did"):
        evaluate_radiographs(radiographs, [("one", pipeline)], count=20)


def test_real_radiographs_at_or_above_the_threshold_are_counted(radiographs, pipeline):
    """Each radiograph's probability is its mean grey: 1/2, 1/3, ... (here the threshold is a half)."""
    entry = evaluate_radiographs(radiographs, [("one", pipeline)], count=20)["bundles"][0]
    above = sum(mean >= 0.3 for mean in (1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6))
    pipeline.bundle = dataclasses.replace(
        pipeline.bundle, pe=dataclasses.replace(pipeline.bundle.pe, threshold=0.3)
    )
    lower = evaluate_radiographs(radiographs, [("one", pipeline)], count=20)["bundles"][0]
    assert lower["positive"]["estimate"] == pytest.approx(above / 5)
    assert lower["positive"]["estimate"] > entry["positive"]["estimate"]
    assert lower["positive"]["lower"] < above / 5 < lower["positive"]["upper"]
    assert lower["hottest"] == [0.75] * 3


def test_fewer_radiographs_are_taken_evenly(radiographs, pipeline):
    evaluate_radiographs(radiographs, [("one", pipeline)], count=3)
    assert len(pipeline.calls) == 2, "first, middle and the last, which is lateral"


def test_the_report_names_the_real_radiographs(cohorts, radiographs, pipeline):
    summary = evaluate(*cohorts, [pipeline], CONFIG, radiographs=[radiographs])
    assert "## Real radiographs: radiographs" in markdown(summary)
    assert "5 of 6" in markdown(summary)


def test_a_folder_without_radiographs_is_refused(tmp_path, pipeline):
    with pytest.raises(InputError, match="found none"):
        evaluate_radiographs(tmp_path, [("one", pipeline)], count=3)
