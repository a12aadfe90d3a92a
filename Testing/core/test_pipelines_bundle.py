"""A bundle says what it is, and no file of it can change unnoticed."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
from tiny_bundle import tiny_info, write_tiny_bundle

from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.pipelines import loading
from xray2ctpa_core.pipelines.bundle import (
    BundleInfo,
    PresetSteps,
    parse_bundle,
    read_bundle_json,
    verify_bundle,
    write_bundle_json,
)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny")


def change_json(folder: Path, **changes: object) -> None:
    path = folder / "bundle.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes), encoding="utf-8")


def presets(preview: float, standard: float, reference: float) -> dict[str, object]:
    return {"presets": {"preview": preview, "standard": standard, "reference": reference}}


def test_the_presets_of_a_measured_curve_are_read() -> None:
    values = json.loads(json.dumps(dataclasses.asdict(tiny_info())))
    assert parse_bundle(values).preset_steps is None
    values["metrics"] = {"quality against steps": presets(2, 6, 25)}
    assert parse_bundle(values).preset_steps == PresetSteps(2, 6, 25)


def test_what_was_written_is_read_back_with_the_hash_of_every_file(bundle: Path) -> None:
    info = verify_bundle(bundle)
    assert sorted(info.files) == ["README.md", "denoiser/model.safetensors", "model_index.json"]
    # SHA-256 of "{}", as sha256sum prints it
    assert (
        info.files["model_index.json"] == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert dataclasses.replace(info, files={}) == tiny_info()


def test_the_bundles_digest_changes_with_any_file_and_any_field(bundle: Path) -> None:
    first = verify_bundle(bundle)
    (bundle / "README.md").write_text("another card", encoding="utf-8")
    second = write_bundle_json(bundle, first)
    third = write_bundle_json(bundle, dataclasses.replace(second, version="0.2"))
    assert len({first.sha256, second.sha256, third.sha256}) == 3
    assert write_bundle_json(bundle, third).sha256 == third.sha256


def test_a_bundle_does_not_say_where_its_networks_were_read_from(bundle: Path) -> None:
    config = bundle / "denoiser" / "config.json"
    config.write_text(
        json.dumps({"_name_or_path": "/home/someone/denoiser", "channels": 4}), encoding="utf-8"
    )
    write_bundle_json(bundle, read_bundle_json(bundle))
    assert json.loads(config.read_text(encoding="utf-8")) == {"channels": 4}
    verify_bundle(bundle)


def test_a_bundle_names_the_real_radiographs_that_taught_it_and_cannot_lose_them(bundle: Path) -> None:
    assert TaughtRadiographs.load(bundle) is None
    radiographs = TaughtRadiographs("a hospital", {"1_000.png": "ab12", "2_000.png": "cd34"})
    radiographs.save(bundle)
    write_bundle_json(bundle, read_bundle_json(bundle))
    assert TaughtRadiographs.load(bundle) == radiographs
    assert str(radiographs) == "2 real radiographs without labels (a hospital)"
    (bundle / "real_films.json").unlink()
    with pytest.raises(BundleError, match=r"missing: real_films\.json"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"source": "x"}', '{"source": "x", "sha256": ["a"]}', '{"source": 3, "sha256": {}}']
)
def test_a_damaged_list_of_real_radiographs_is_refused(bundle: Path, text: str) -> None:
    (bundle / "real_films.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=r"real_films\.json"):
        TaughtRadiographs.load(bundle)


def test_changed_missing_and_extra_files_are_named(bundle: Path) -> None:
    weights = bundle / "denoiser" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    (bundle / "README.md").unlink()
    (bundle / "extra.json").write_text("{}", encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        verify_bundle(bundle)
    assert "missing: README.md" in caught.value.message
    assert "not in bundle.json: extra.json" in caught.value.message
    assert "changed: denoiser/model.safetensors" in caught.value.message
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["weights.pt", "model.bin", "pipeline.py", "denoiser/x.pkl", ".hidden"])
def test_files_that_could_hold_code_are_refused(bundle: Path, name: str) -> None:
    (bundle / name).write_bytes(b"x")
    with pytest.raises(BundleError, match="only safetensors, JSON"):
        verify_bundle(bundle)
    with pytest.raises(BundleError, match="only safetensors, JSON"):
        write_bundle_json(bundle, tiny_info())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema_version": "2.0"}, "schema version '2.0'"),
        ({"schema_version": 1}, "schema version 1"),
        ({"surprise": 1}, "Unknown key"),
        ({"version": 3}, "needs str"),
        ({"geometry": {"grid": [8, 16, 16]}}, "lacks depth_fraction"),
        ({"hu_window": [900, -1000]}, "lower < upper"),
        ({"hu_window": ["a", "b"]}, "list of float"),
        ({"conditioning": "telepathic"}, "conditioning"),
        ({"latents": {"mean": [0.0], "std": [1.0, 1.0]}}, "one number a channel"),
        ({"latents": {"mean": [0.0], "std": [0.0]}}, "std must be positive"),
        ({"metrics": []}, "metrics needs an object"),
        ({"metrics": {"full heat": 0}}, "full heat needs a positive number"),
        ({"metrics": {"full heat": "hot"}}, "full heat needs a positive number"),
        ({"metrics": {"quality against steps": 3}}, "needs presets"),
        ({"metrics": {"quality against steps": presets(4, 3, 9)}}, "preview <= standard"),
        ({"metrics": {"quality against steps": presets(0, 3, 9)}}, "1 <= preview"),
        ({"metrics": {"quality against steps": presets(1, 3.0, 9)}}, "whole numbers"),
        ({"files": {"../outside.json": "0"}}, "inside the bundle"),
        ({"pe": {"threshold": 1.5, "platt_a": 1.0, "platt_b": 0.0, "calibrated": True}}, "between 0 and 1"),
    ],
)
def test_incompatible_fields_are_named(changes: dict[str, object], says: str) -> None:
    values = json.loads(json.dumps(dataclasses.asdict(tiny_info()))) | changes
    with pytest.raises(BundleError, match=says):
        parse_bundle(values)


@pytest.mark.parametrize(
    "field", [f.name for f in dataclasses.fields(BundleInfo) if not f.metadata.get("optional")]
)
def test_a_missing_field_is_named(field: str) -> None:
    values = dataclasses.asdict(tiny_info())
    del values[field]
    with pytest.raises(BundleError, match=field.replace("schema_version", "schema version")):
        parse_bundle(values)


def test_a_changed_threshold_is_noticed(bundle: Path) -> None:
    pe = json.loads((bundle / "bundle.json").read_text())["pe"]
    change_json(bundle, pe=pe | {"threshold": 0.9})
    with pytest.raises(BundleError, match="digest differs"):
        read_bundle_json(bundle)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_damaged_bundle_json_is_a_bundle_error(bundle: Path, text: str) -> None:
    (bundle / "bundle.json").write_text(text, encoding="utf-8")
    with pytest.raises(BundleError):
        verify_bundle(bundle)


def test_a_folder_without_bundle_json_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="without it"):
        verify_bundle(tmp_path)


def test_folders_and_embedded_names_never_reach_the_network(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def unreachable(*_arguments: object) -> Path:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(loading, "_download", unreachable)
    assert loading.load_bundle(bundle)[1].name == "tiny"
    monkeypatch.setattr(loading, "EMBEDDED", bundle.parent)
    assert loading.resolve_bundle("tiny") == bundle
    assert loading.embedded_bundles() == ["tiny"]
    monkeypatch.setenv(loading.OFFLINE_FOLDERS_VARIABLE, os.pathsep.join(["", str(tmp_path)]))
    (tmp_path / "owner").mkdir()
    bundle.rename(tmp_path / "owner" / "model@v1")
    assert loading.resolve_bundle("owner/model@v1") == tmp_path / "owner" / "model@v1"
    assert loading.resolve_bundle("owner/model", "v1") == tmp_path / "owner" / "model@v1"


@pytest.mark.parametrize("name", ["", "no-such-bundle", "./no/such/folder", "/nowhere", "..\\x", "a/b/c"])
def test_a_name_that_is_nothing_is_refused_without_the_network(name: str) -> None:
    with pytest.raises(BundleError):
        loading.resolve_bundle(name)


def test_a_hub_bundle_needs_a_pinned_revision() -> None:
    with pytest.raises(BundleError, match="pinned revision"):
        loading.resolve_bundle("owner/model")


def test_an_unreachable_hub_says_how_to_go_on_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_arguments: object, **_options: object) -> str:
        raise ConnectionError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_network)
    with pytest.raises(BundleError, match="Cannot fetch bundle owner/model at revision v1") as caught:
        loading.resolve_bundle("owner/model@v1")
    assert loading.OFFLINE_FOLDERS_VARIABLE in caught.value.hint


def test_who_taught_a_bundle_is_kept_and_a_bundle_that_says_nothing_is_as_before(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "tiny")
    text = (folder / "bundle.json").read_text(encoding="utf-8")
    assert '"training"' not in text
    info = read_bundle_json(folder)
    assert info.training == {}
    taught = write_bundle_json(folder, dataclasses.replace(info, training={"people": ["one", "other"]}))
    assert taught.sha256 != info.sha256
    assert verify_bundle(folder).training == {"people": ["one", "other"]}
