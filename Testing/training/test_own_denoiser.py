"""A newcomer adds a denoiser of his own: one file and one recipe, nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="training needs the training extra")

from pairs import write_mixed_studies
from test_pairs import TINY

from xray2ctpa_core.data.index import INDEX_FILE
from xray2ctpa_core.generation.samples import SAMPLE_CXR

DENOISER = '''"""One convolution."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import nn

from xray2ctpa_core.models.protocols import Conditioning


class OneConvolution(ModelMixin, ConfigMixin):
    """Noisy latents and lifted features, mixed place by place."""

    @register_to_config
    def __init__(
        self, latent_channels=4, spatial_channels=8, embedding_dim=512, channels=(8,), condition_dim=8,
        residual_std=None, map_std=None,
    ):
        super().__init__()
        self.mix = nn.Conv3d(latent_channels + spatial_channels, latent_channels, 3, padding=1)

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor, conditioning: Conditioning):
        return self.mix(torch.cat([sample, conditioning.spatial], 1))
'''
RECIPE = """about = "A denoiser of one convolution, on pairs without maps."
base = "real-pairs.toml"

[denoiser]
network = "OneConvolution"
"""


@pytest.mark.slow
def test_one_file_and_one_recipe_train_pack_and_generate(repository: Path, tmp_path: Path) -> None:
    core = tmp_path / "X-ray2CTPACore" / "xray2ctpa_core"
    ignored = shutil.ignore_patterns("__pycache__", "*.nii.gz")
    shutil.copytree(repository / "X-ray2CTPACore" / "xray2ctpa_core", core, ignore=ignored)
    shutil.copytree(repository / "Training", tmp_path / "Training", ignore=ignored)
    (core / "models" / "denoisers" / "mine.py").write_text(DENOISER)
    (tmp_path / "Training" / "recipes" / "mine.toml").write_text(RECIPE)
    data, out = write_mixed_studies(tmp_path / "data", (False, False)), tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(core.parent), "OMP_NUM_THREADS": "2"}

    def run(*words: str) -> None:
        done = subprocess.run(
            [sys.executable, *words],
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    steps = ["autoencoder", "radiographs", "latents", "xray-encoder", "denoiser", "pack"]
    index = [f"run.studies={data / INDEX_FILE}", f"radiographs.root={data}", "radiographs.input=frame"]
    training = ["Training/train.py", "mine", "--data", str(data), "--out", str(out)]
    run(*training, "--only", *steps, "--set", *TINY, *index)
    denoiser = json.loads((out / "pack" / "denoiser" / "config.json").read_text())
    assert denoiser["_class_name"] == "OneConvolution"
    bundle = ["--bundle", str(out / "pack"), "--steps", "2", "--force"]
    run("-m", "xray2ctpa_core", "generate", str(SAMPLE_CXR), *bundle, "--out", "result")
    record = json.loads((tmp_path / "result" / "result.json").read_text())
    assert record["bundle"]["name"] == "real-pairs"
    assert record["pe"]["probability"] is None
