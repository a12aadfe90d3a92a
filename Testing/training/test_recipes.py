"""Recipes: each has a base, every key is typed, described and checked before anything is imported."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from stage_scripts import read, recipe, runner, step, with_steps

from xray2ctpa_core.data.settings import key_docs
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.training.recipe import read_recipe
from xray2ctpa_core.training.settings.loop import LoopConfig

RECIPES = sorted((Path(__file__).resolve().parents[2] / "Training" / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_one_that_its_steps_read(repository: Path, path: Path, tmp_path: Path) -> None:
    found = read(repository, path.stem, tmp_path)
    assert found.about
    assert found.steps
    assert all(step.out == tmp_path / step.name for step in found.steps)


def test_the_vqgan_of_the_papers_volumes_has_xctdiffs_latents(repository: Path, tmp_path: Path) -> None:
    from xray2ctpa_core.training.stages.vqgan import build_vqgan

    found = next(s.settings for s in read(repository, "paper-vqgan", tmp_path).steps if s.name == "vqgan")
    assert found.latent_channels == 8
    depth, height, width = build_vqgan(found).factors
    assert (64 // depth, 256 // height, 256 // width) == (32, 32, 32)


def test_every_key_of_every_step_has_a_line_that_describes_it(repository: Path) -> None:
    with_steps(repository)
    from kinds import KINDS

    described = [kind.settings for kind in KINDS.values()]
    assert len(described) > 40
    for settings in described:
        docs = key_docs(settings)
        assert [field.name for field in fields(settings) if not docs.get(field.name)] == [], settings


def test_help_lists_the_keys_with_their_values_and_defaults(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runner(repository).main(None, ["smoke", "--out", "run", "--only", "ctpa", "--help"]) == 0
    said = capsys.readouterr().out
    assert "[ctpa] ctpa: Preprocessing of CTs to the volumes that the codec and the classifiers read." in said
    assert "  spacing_mm = 5.0 (default 1.0)\n      Spacing of the isotropic grid" in said
    assert '  lungs = "threshold" (default "auto")' in said
    assert "  margin_mm = 10.0\n" in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("latents.hu_window=5", r"Step latents: LatentsSettings: hu_window: .*tuple, got 5"),
        ("latents.hu_window=[1,2,3]", "hu_window: .*at most 2 items"),
        ("unconditional.steps=many", r"steps needs int, got 'many'"),
        ("unconditional.steps=2.5", r"steps needs int, got 2\.5"),
        ("unconditional.steps=0", "steps: .*greater than 0, got 0"),
        ("unconditional.learning_rate=true", "learning_rate needs float, got True"),
        ("unconditional.precision=fp8", "precision: .*'no', 'bf16' or 'fp16', got 'fp8'"),
        ("unconditional.stepz=3", r"Unknown key\(s\) \['stepz'\]"),
        ("denoizer.steps=3", r"Expected a step out of ctpa, .*got 'denoizer'"),
        ("unconditional.latents={place}/x", r"unconditional.latents: expected \{name\} out of"),
    ],
)
def test_a_wrong_setting_is_refused_by_step_and_name(
    repository: Path, tmp_path: Path, change: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read(repository, "smoke", tmp_path, change)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.toml").write_text(text)
    return folder


def test_a_recipe_says_what_differs_from_its_base(tmp_path: Path) -> None:
    write(
        tmp_path,
        base='steps = ["one", "two"]\n[run]\nlong = 7\n[one]\nkind = "loop"\nsteps = "{long}"\nseed = 3\n'
        '[two]\nlike = "one"\nseed = 4\n',
        mine='base = "base.toml"\n[run]\nlong = 9\n[one]\nbatch_size = 1\n',
    )
    found = read_recipe(tmp_path / "mine.toml", {"out": "run"}, ["two.steps=2"], {"loop": LoopConfig})
    one, two = (step.settings for step in found.steps)
    assert (one.steps, one.seed, one.batch_size, one.warmup) == (9, 3, 1, LoopConfig().warmup)
    assert (two.steps, two.seed, two.batch_size) == (2, 4, 1)


def test_bases_and_likes_that_go_round_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a='base = "b.toml"', b='base = "a.toml"')
    with pytest.raises(ConfigError, match="its own base"):
        read_recipe(tmp_path / "a.toml", {"out": "run"}, [], {})
    write(tmp_path, c='steps = ["x"]\n[x]\nlike = "y"\n[y]\nlike = "x"\n')
    with pytest.raises(ConfigError, match="like itself: x -> y -> x"):
        read_recipe(tmp_path / "c.toml", {"out": "run"}, [], {"x": LoopConfig, "y": LoopConfig})


def test_a_path_that_does_not_exist_is_said_before_torch_is_imported(
    repository: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-X", "importtime", str(repository / "Training" / "train.py"), "smoke"]
    command += ["--out", str(tmp_path / "run"), "--data", str(tmp_path / "none")]
    before = os.times().children_user
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert os.times().children_user - before < 2, "seconds of a processor"
    assert done.returncode == 2
    assert f"Step ctpa: Expected root={tmp_path / 'none'}, got no such file or folder" in done.stderr
    assert not any(line.rsplit("|", 1)[-1].strip() == "torch" for line in done.stderr.splitlines())
    assert not (tmp_path / "run").exists()


def test_a_codec_that_does_not_exist_is_said_and_nothing_is_fetched(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step(repository, "smoke", "latents", tmp_path, f"studies={tmp_path}", "autoencoder=/no/vae") == 2
    assert "Expected autoencoder=/no/vae, got no such file or folder" in capsys.readouterr().err


def test_what_a_library_raises_in_a_step_is_one_line(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(config: object, out: Path) -> None:
        raise OSError("Unable to load weights\nfrom codec.safetensors")

    with_steps(repository)
    monkeypatch.setattr(importlib.import_module("steps.encode"), "latents", run)
    monkeypatch.delenv("XRAY2CTPA_DEBUG", raising=False)

    there = (f"studies={tmp_path}", f"autoencoder={tmp_path}", "radiographs=")
    assert step(repository, "smoke", "latents", tmp_path, *there) == 2
    assert capsys.readouterr().err.splitlines() == [
        "error: Cannot go on: Unable to load weights from codec.safetensors. "
        "Check the files and folders named in the command."
    ]
    monkeypatch.setenv("XRAY2CTPA_DEBUG", "1")
    with pytest.raises(OSError, match="codec"):
        step(repository, "smoke", "latents", tmp_path, *there)


def test_a_finished_step_that_was_made_with_other_settings_says_so(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = tmp_path / "unconditional"
    (done / "denoiser").mkdir(parents=True)
    (done / "denoiser" / "config.json").write_text("{}")
    settings = next(s.settings for s in read(repository, "smoke", tmp_path).steps if s.name == done.name)
    from xray2ctpa_core import config

    config.save(settings, done / "config.json")
    (tmp_path / "latents").mkdir()
    words = ["--only", "unconditional", "--set", "unconditional.workers=3"]
    assert recipe(repository, "smoke", tmp_path, *words) == 0
    assert capsys.readouterr().err == ""
    assert recipe(repository, "smoke", tmp_path, *words, "unconditional.width=16") == 0
    assert "was made with width=8, not 16" in capsys.readouterr().err
    assert json.loads((done / "config.json").read_text())["width"] == 8


def test_commands_run_the_steps_of_their_own_kind(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(modules: tuple[str, ...]) -> list[str]:
        made = runner(repository)
        made._modules = modules
        assert made.main(None, ["smoke", "--data", str(tmp_path), "--out", str(tmp_path), "--dry-run"]) == 0
        return [line.split()[1] for line in capsys.readouterr().out.splitlines()]

    assert said(("steps.preprocess",)) == ["ctpa", "cxr", "drr", "drr-cxr"]
    assert said(("steps.encode",)) == ["latents"]
    assert said(("steps.tables",)) == ["tables"]
    assert said(("steps.generate", "steps.predict")) == ["generated"]
    assert said(()) == [step.name for step in read(repository, "smoke", tmp_path).steps]


def test_one_setting_takes_people_out_of_every_step_that_trains(repository: Path, tmp_path: Path) -> None:
    found = read(repository, "people", tmp_path, 'run.without=["a", "b"]')
    without = {step.name: step.settings.without for step in found.chosen(["encoder", "denoiser", "bundle"])}
    assert without == dict.fromkeys(("encoder", "denoiser", "bundle"), ("a", "b"))


def test_every_kind_names_a_function_that_takes_its_settings(repository: Path) -> None:
    with_steps(repository)
    from kinds import KINDS

    for name, kind in KINDS.items():
        function = getattr(importlib.import_module(kind.module), kind.function)
        assert get_type_hints(function)["config"] is kind.settings, name
