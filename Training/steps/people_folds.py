"""Judges the bank's encoder by folds of people, on people who taught nothing.

Draws patients of packed people, of which any fold may use those in whom nobody of the fold has a part; fits
the bank's encoder to them; judges the people of every fold by the radiographs of `evaluate --people`. Drawing
goes on where it was stopped. folds.json has every number, folds.png axial, coronal and sagittal slices of CT,
of bent tissue, and of the sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from steps.bank_encoder import in_reference, new_encoder, read_pool, shared_tissue, with_planes
from steps.judge_people import scores, slices
from steps.people import enhanced_people
from torch.nn import functional

from xray2ctpa_core.cli.stage import Bar
from xray2ctpa_core.config import write_json
from xray2ctpa_core.constants import DEFAULT_HU_WINDOW
from xray2ctpa_core.diffusion.alignment import align_map
from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.evaluation.people import Person, name_of, people_below
from xray2ctpa_core.metrics.classification import delong_interval
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder
from xray2ctpa_core.models.encoders.oriented_gradients import radiograph_features
from xray2ctpa_core.models.hu import normalise_hu
from xray2ctpa_core.pipelines.bundle import GeometryRule
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.simulation.people.drawing import Batch, Shape, draw_patients, joined
from xray2ctpa_core.simulation.people.person import people_in
from xray2ctpa_core.simulation.people.population import load_population
from xray2ctpa_core.training.bank_read_outs import fit_read_outs
from xray2ctpa_core.training.settings.people import PeopleFoldsSettings

#: Patients of a file, drawn so many at once, the first with this seed; nodes of the maps that are kept.
_FILE, _AT_ONCE, _FIRST_SEED, _NODES = 128, 8, 50_000, (12, 12, 12)


def run(config: PeopleFoldsSettings, out: Path) -> None:
    """Writes ``out``/pool, ``out``/tissue.npz, ``out``/folds.json and ``out``/folds.png."""
    (out / "pool").mkdir(parents=True, exist_ok=True)
    folds = [fold.split(",") for fold in config.folds]
    names = [person.name for person in people_in(Path(config.people))]
    last = [list(config.without)] if config.without else []
    if unknown := {name for fold in [*folds, *last] for name in fold} - set(names):
        raise ConfigError(
            f"Expected people of {config.people} in folds and without, got {', '.join(sorted(unknown))}."
        )
    draw_pool(config, folds, out / "pool")
    volumes = tissue_volumes(config, out / "tissue.npz")
    pool, person, shapes = read_pool(out / "pool", config.people, config.patients)
    medium = enhanced_people(config.people)
    people = judged_people(config)
    rows, shown, logits, labels = [], [], [], []
    bar = Bar("judged")
    for fold in [*folds, *last]:
        held = torch.tensor([names.index(name) for name in fold])
        used = ~(torch.isin(person, held) | torch.isin(shapes, held).any(1))
        teachers = [name for name in names if name not in fold and name not in config.without]
        bent = [place for place, name in enumerate(teachers) if not config.tissue or name in config.tissue]
        shared = [place for place, name in enumerate(teachers) if name in medium]
        own = volumes[[names.index(name) for name in teachers]]
        tissue = shared_tissue(own, config.bank_mm, bent, shared)
        encoder = new_encoder(config, with_planes(tissue, config.bank_planes))
        fit_read_outs(encoder, pool[used])
        unseen = torch.isin(person, held) & torch.isin(shapes, held).all(1)
        if bool(unseen.any()):
            logits.append(encoder.linear(pool.features[unseen].float() - encoder.mean_features)[:, -1])
            labels.append(pool.pe[unseen])
        for name in fold:
            row, planes = judged(name, people, encoder, config)
            rows.append({"person": name, "patients": int(used.sum()), **row})
            shown.append(planes)
            bar(len(rows), len(people))
    summary = means(rows)
    interval = delong_interval(torch.cat(labels).numpy(), torch.cat(logits).detach().numpy())
    auroc = {"patients": len(torch.cat(labels)), **asdict(interval)}
    content = {"mean": summary, "AUROC of PE, radiograph alone, unseen people": auroc, "people": rows}
    print("AUROC of PE, radiograph alone, unseen people", auroc)
    Image.fromarray(np.concatenate(shown)).save(out / "folds.png")
    for kind, numbers in summary.items():
        print(f"{kind:32s}", "  ".join(f"{key} {value:.3f}" for key, value in numbers.items()))
    write_json(out / "folds.json", content, indent=1)


def draw_pool(config: PeopleFoldsSettings, folds: Sequence[Sequence[str]], out: Path) -> None:
    """Files of patients: of those of half of the folds, so that each fold has half of all that it may use."""
    count = -(-config.patients // _FILE)
    files = [out / f"{number:05d}.npz" for number in range(count)]
    if all(file.exists() for file in files):
        return
    population = load_population(people_in(Path(config.people)), "cpu", config.people_mm)
    shape = Shape(config.drawn_grid, config.pixels, (1, 1, 1))
    bar = Bar("patients")
    for number, file in enumerate(files):
        if file.exists():
            continue
        generator = torch.Generator().manual_seed(_FIRST_SEED + number)
        parts = []
        for _ in range(_FILE // _AT_ONCE):
            apart = torch.randperm(len(folds), generator=generator)[: len(folds) // 2].tolist()
            gone = {name for fold in apart for name in folds[fold]} | set(config.without)
            kept = torch.tensor([n for n, name in enumerate(population.names) if name not in gone])
            drawn = draw_patients(population.only(kept.tolist()), _AT_ONCE, shape, generator)
            parts.append(replace(drawn, person=kept[drawn.person], shapes=kept[drawn.shapes]))
        _save(joined(parts), config.coarse, file)
        bar(number + 1, count)


def _save(batch: Batch, coarse: tuple[int, ...], file: Path) -> None:
    volume = functional.interpolate(batch.volume, size=tuple(coarse), mode="trilinear")
    partial = file.with_suffix(".tmp.npz")
    np.savez(
        partial,
        features=radiograph_features(batch.image).half().numpy(),
        volume=((volume[:, 0] + 1) * 127.5).round().byte().numpy(),
        map=resized(batch.template_map, _NODES).half().numpy(),
        person=batch.person.numpy(),
        shapes=batch.shapes.numpy(),
        pe=batch.pe.numpy(),
        signs=batch.signs.numpy(),
    )
    partial.rename(file)


def tissue_volumes(config: PeopleFoldsSettings, file: Path) -> torch.Tensor:
    """(N, D, H, W) in [-1, 1]: everybody in the reference's space, with contrast medium."""
    if not file.exists():
        people = people_in(Path(config.people))  # one after another: each takes 160 MB
        volumes = torch.cat([in_reference(load_population([person]), config.bank_mm) for person in people])
        np.savez(file, volumes=((volumes + 1) * 127.5).round().to(torch.uint8).numpy())
    return torch.from_numpy(np.load(file)["volumes"]).float() / 127.5 - 1


def judged_people(config: PeopleFoldsSettings) -> dict[str, Person]:
    """Every person by name, on the grid."""
    geometry = GeometryRule.of_mean_patient(config.grid)
    return {name_of(file): Person(file, geometry) for file in people_below([Path(config.cts)])}


@torch.no_grad()
def judged(
    name: str, people: dict[str, Person], encoder: BankEncoder, config: PeopleFoldsSettings
) -> tuple[dict[str, dict[str, float]], np.ndarray]:
    """Scores of a person by what is compared, and slices."""
    person = people[name]
    true, side = normalised(torch.from_numpy(person.hu)), person.volume.spacing[0] * config.grid[2]
    others = [normalised(torch.from_numpy(other.hu)) for key, other in people.items() if key != name]
    image = torch.from_numpy(person.frame_image(256)).float()[None, None]
    expected = encoder(image)
    aligned = align_map(encoder.atlas, expected.template_map, image, DEFAULT_HU_WINDOW, config.alignment)
    tissue = torch.tensor([list(people).index(name) % len(encoder.bank.intensities)])
    bent = encoder.bank(aligned, tissue, config.grid)
    outside = encoder.bank.outside(aligned, config.grid)
    made = {
        "mean of the others' CTs": sum(others) / len(others),
        "one tissue, expected map": encoder.bank(expected.template_map, tissue, config.grid)[0, 0],
        "the expectation": encoder.expected_volume(expected)[0, 0],
    }
    made |= {
        f"map aligned, {share} of the rest": encoder.nearer(bent, expected.coarse, share, outside)[0, 0]
        for share in config.shares
    }
    if config.bundle:
        made[f"bundle {Path(config.bundle).name}"] = bundle_sample(config.bundle, person)
    row = {kind: scores(volume.clamp(-1, 1), true, side) for kind, volume in made.items()}
    shown = (true, bent[0, 0], encoder.nearer(bent, expected.coarse, config.share, outside)[0, 0])
    return row, np.concatenate([plane for volume in shown for plane in slices(volume)], 1)


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
