"""A cohort of tiny patients in the layout of `xray2ctpa cohort`, and a pipeline of plain arithmetic."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image

from xray2ctpa_core.data.taught_radiographs import TaughtRadiographs
from xray2ctpa_core.errors import NotFrontalCXRError
from xray2ctpa_core.io.volumes import write_volume
from xray2ctpa_core.pipelines.bundle import (
    BundleInfo,
    CXRPreprocessing,
    GeometryRule,
    LatentStatistics,
    PEOperatingPoint,
    SamplingDefaults,
)
from xray2ctpa_core.volume import Volume, axial_affine

GRID = (16, 32, 32)
LUNG_HU, TISSUE_HU, BLOOD_HU = -850, 40, 300


def write_patient(cohort: Path, number: int, *, pe: bool, heart: int, split: str | None = None) -> Path:
    """Two lungs, a heart ``heart`` voxels wide and, with PE, clots in the left lower lobe."""
    hu = np.full(GRID, -1000, dtype=np.int16)
    hu[:, 2:30] = TISSUE_HU
    hu[2:14, 5:27, 3:13] = LUNG_HU
    hu[2:14, 5:27, 19:29] = LUNG_HU
    hu[3:12, 9:18, 16 - heart // 2 : 16 + heart // 2] = BLOOD_HU
    organs = np.full(GRID, 11, dtype=np.uint8)
    organs[8:14, 5:27, 19:29], organs[2:8, 5:27, 19:29] = 1, 2
    organs[2:14, 5:27, 3:13] = 5
    organs[4:6, 12:14, 22:26] = 8  # an artery inside the left lower lobe
    radiograph = np.clip(hu.astype(float) + 1000, 0, None).mean(axis=1)[::-1]
    radiograph = np.kron(radiograph, np.ones((4, 2))) / radiograph.max() * 60000  # (64, 64)
    folder = cohort / "patients" / f"{number:06d}"
    folder.mkdir(parents=True)
    affine = axial_affine(GRID, (300.0, 240.0, 300.0))
    write_volume(Volume(hu, affine), folder / "ctpa.nii.gz", np.int16)
    write_volume(Volume(organs, affine), folder / "organs.nii.gz", np.uint8)
    Image.fromarray(radiograph.astype(np.uint16)).save(folder / "cxr.png")
    record = {
        "number": number,
        "cohort": cohort.name,
        "pe": pe,
        "clot_lobes": [2] if pe else [],
        "sign_probability": 0.4 + 0.1 * pe + 0.01 * number,
        "signs": {"effusion": pe, "opacity": False},
        "frame": {"top": 0.0, "left": 0.0, "side": 64.0},
    }
    if split is not None:
        record["split"] = split
    (folder / "patient.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def bundle(name: str = "arithmetic", **changes: object) -> BundleInfo:
    info = BundleInfo(
        name=name,
        version="1.0.0",
        licence="Apache-2.0",
        trained_on="nothing",
        intended_use="tests",
        is_demonstration=True,
        hu_window=(-1000.0, 900.0),
        conditioning="spatial",
        geometry=GeometryRule(GRID, 300.0, 0.8, 1800.0, 150.0),
        cxr=CXRPreprocessing(1.18, 64, "rank"),
        sampling=SamplingDefaults("ddpm", 2, 1),
        latents=LatentStatistics((0.0,), (1.0,)),
        pe=PEOperatingPoint(0.5, 1.0, 0.0, False),
        files={"denoiser/model.safetensors": "0" * 64},
    )
    return dataclasses.replace(info, **changes)


class ArithmeticPipeline:
    """Latents are the volume pooled by 4; a sample is ``template`` plus noise of 40 HU; calls are counted."""

    device = torch.device("cpu")

    def __init__(self, template: np.ndarray, info: BundleInfo | None = None) -> None:
        self.bundle = bundle() if info is None else info
        self.taught_radiographs: TaughtRadiographs | None = None
        self.template, self.reads_radiographs = template, True
        self.calls: list[int] = []
        self.alignments: list[int] = []

    def __call__(
        self,
        radiograph,
        *,
        frame=None,
        num_inference_steps=None,
        num_samples=1,
        seed=0,
        output_samples=False,
    ):
        assert output_samples or frame is None
        if radiograph.name.startswith("lateral"):
            raise NotFrontalCXRError("Expected a frontal radiograph.")
        assert num_inference_steps is None  # the bundle's own
        assert radiograph.pixels.max() <= 1
        assert frame is None or frame.side in (64.0, 256.0)
        self.calls.append(num_samples)
        self.alignments.append(self.bundle.sampling.alignment)
        noise = [np.random.default_rng([seed, k]).normal(0, 40, GRID) for k in range(num_samples)]
        cam = np.zeros(GRID, np.float32)
        cam[2:8, 5:27, 19:29] = 0.75  # the left lower lobe
        affine = axial_affine(GRID, (300.0, 240.0, 300.0))
        return SimpleNamespace(
            samples=(self.template + np.stack(noise)).astype(np.float32),
            pe_probability=float(radiograph.pixels.mean()),
            gradcam=Volume(cam, affine),
            consistency={"frontal_correlation": float(radiograph.pixels.mean())},
        )

    def encode(self, volume):
        return torch.nn.functional.avg_pool3d(volume[None], (1, 4, 4))

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=(1, 4, 4))[:, 0]

    def classify(self, latents):
        return latents.mean(dim=(1, 2, 3, 4))

    @property
    def scores_radiographs(self):
        return self.reads_radiographs

    def classify_radiograph(self, image):
        return image.mean().view(1)
