"""One network from its own folder: of this package's classes alone, whole, and the same values."""

import json
from pathlib import Path

import pytest
import torch

from xray2ctpa_core.errors import BundleError
from xray2ctpa_core.models.codecs.vqgan import VQGAN
from xray2ctpa_core.pipelines.loading import load_denoiser, load_part


def small() -> VQGAN:
    torch.manual_seed(0)
    return VQGAN((4, 8), (2,), 1, 3, 16, groups=4)


def test_a_part_is_loaded_as_its_config_says_and_gives_the_same(tmp_path: Path) -> None:
    saved = small().eval()
    saved.save_pretrained(tmp_path)
    loaded = load_part(tmp_path)
    assert type(loaded) is VQGAN
    assert not loaded.training
    volumes = torch.rand(1, 1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded(volumes)[0], saved(volumes)[0])


@pytest.mark.parametrize("name", ["AutoencoderKL", "Linear", "Codebook", "os.system", "../x", "", None, [1]])
def test_a_class_that_is_no_network_of_this_package_is_refused(name: object, tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"_class_name": name}))
    with pytest.raises(BundleError, match=r"config\.json describes no network"):
        load_part(tmp_path)


def test_a_setting_that_the_class_refuses_is_a_bundle_error(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"groups": 3}))
    with pytest.raises(BundleError, match="divisible by groups=3"):
        load_part(tmp_path)


def test_weights_that_are_missing_or_cut_are_named(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    with pytest.raises(BundleError, match="Cannot read"):
        load_part(tmp_path)
    weights.unlink()
    with pytest.raises(BundleError, match="without diffusion_pytorch_model"):
        load_part(tmp_path)


def test_a_denoiser_is_not_made_of_another_network(tmp_path: Path) -> None:
    small().save_pretrained(tmp_path)
    with pytest.raises(BundleError, match=r"Expected a PaperDenoiser .* got a VQGAN"):
        load_denoiser(tmp_path)
