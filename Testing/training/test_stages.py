"""What the stages learn from: each term reaches the weights it is for, and no others."""

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score
from stage_scripts import module_of

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.data.findings import EVIDENCE
from xray2ctpa_core.diffusion.sampling import sample_latents
from xray2ctpa_core.diffusion.schedulers import CONSISTENCY_LEVELS, FEW_STEP, make_scheduler
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.explanation.gradcam import gradcam_map
from xray2ctpa_core.models.classifiers.pe_classifier import PEClassifier
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.simulation.signs import SIGNS, sign_probability
from xray2ctpa_core.training.readout import (
    Evidence,
    counted,
    fit_radiograph_head,
    fit_readout,
    fit_shown,
    logits_of,
    read_evidence,
)
from xray2ctpa_core.training.stages.consistency import ConsistencyStage
from xray2ctpa_core.training.stages.denoiser import DenoiserStage
from xray2ctpa_core.training.stages.pe_classifier import PEClassifierStage
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage

GRID = (16, 8, 8)


def encoder(atlas: bool, sign_maps: int = 0) -> XrayEncoder:
    torch.manual_seed(0)
    shape = (16, 32, 32) if atlas else None
    module = XrayEncoder((8, 8, 16), GRID, 4, 16, 2, shape, 3, 4, 8, sign_maps)
    if module.atlas is not None:
        axes = [torch.linspace(-1, 1, n) for n in MAP_GRID]
        identity = torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)
        module.atlas.set_atlas(torch.rand(16, 32, 32) * 2 - 1, identity)
    return module


def batch(cases: int, module: XrayEncoder) -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    values = {
        "latents": torch.randn(cases, 2, *GRID),
        "image": torch.rand(cases, 1, 64, 64),
        "label": torch.arange(cases).float() % 2,
        "signs": (torch.rand(cases, len(SIGNS)) > 0.5).float(),
    }
    if module.atlas is not None:
        values["template_map"] = module.atlas.mean_map + 0.05 * torch.randn(cases, 3, 1, 1, 1)
    return values


@pytest.mark.parametrize("atlas", [True, False])
def test_the_encoder_learns_all_its_tasks(atlas: bool) -> None:
    module = encoder(atlas)
    stage = XrayEncoderStage(module, 4.0, 0.1, torch.ones(1, 2, 1, 1, 1), dense_every=2)
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    data, first = batch(4, module), {}
    for _ in range(60):
        loss, terms = stage.loss(stage.module, data, torch.Generator())
        first = first or terms
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert set(terms) == {"mse", "coarse_mse", "pe", "signs"} | ({"map", "coarse_map"} if atlas else set())
    for name, value in terms.items():
        assert value < 0.95 * first[name], name


def test_what_is_not_known_of_a_study_it_does_not_teach() -> None:
    """NaN stands for an unknown map, label or sign: the other study's terms stay what they are alone."""
    module = encoder(atlas=True)
    stage = XrayEncoderStage(module, 4.0, 0.1, torch.ones(1, 2, 1, 1, 1))
    stage.module.eval()
    both = batch(2, module)
    alone = {name: value[:1] for name, value in both.items()}
    for name in ("template_map", "label", "signs"):
        both[name][1] = torch.nan
    loss, terms = stage.loss(stage.module, both, torch.Generator())
    _, first = stage.loss(stage.module, alone, torch.Generator())
    for name in ("map", "coarse_map", "pe", "signs"):
        assert torch.allclose(terms[name], first[name], rtol=1e-4), name
    loss.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in stage.module.parameters())


def test_a_study_without_a_map_teaches_the_denoiser_its_latents_alone() -> None:
    module = encoder(atlas=True)
    denoiser = SpatialDenoiser(
        2, module.spatial_channels, 16, (8,), 16, residual_std=(1.0, 1.0), map_std=(0.1, 0.1, 0.1)
    )
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    stage = DenoiserStage(denoiser, module, scheduler, 0.0, torch.ones(1, 5, 1, 1, 1))
    data = batch(2, module)
    _, known = stage.loss(denoiser, data, torch.Generator().manual_seed(0))
    data["template_map"][:] = torch.nan
    loss, terms = stage.loss(denoiser, data, torch.Generator().manual_seed(0))
    assert known["map"] > 0
    assert terms["map"] == 0
    assert terms["latents"] > 0
    assert loss.isfinite()


def test_how_things_look_is_learned_under_the_true_map_whatever_the_predicted_one() -> None:
    module = encoder(atlas=True)
    stage = XrayEncoderStage(module, 0.0, 0.0, torch.ones(1, 2, 1, 1, 1))
    data = batch(2, module)
    before = stage.loss(stage.module, data, torch.Generator())[1]["mse"]
    with torch.no_grad():
        module.coarse_map[-1].bias += 1.0
    after = stage.loss(stage.module, data, torch.Generator())[1]
    assert torch.equal(before, after["mse"])
    assert after["map"] > 0


def test_radiographs_without_volumes_teach_the_map_and_the_signs_beside_those_with() -> None:
    module = encoder(atlas=True)
    stage = XrayEncoderStage(module, 4.0, 0.1, torch.ones(1, 2, 1, 1, 1), dense_every=4)
    beside = {f"latent_{name}": value for name, value in batch(4, module).items()}
    radiographs = {name: value.flip(0) for name, value in batch(4, module).items() if name != "latents"}
    _, terms = stage.loss(stage.module, radiographs | beside, torch.Generator())
    # One case of four has its latents learned; its map, and those of the four radiographs, count alike.
    together = {
        name: torch.cat([beside[f"latent_{name}"][:1], radiographs[name]]) for name in radiographs
    } | {"latents": beside["latent_latents"][:1]}
    readings = stage.module(together["image"], together["template_map"], 1)
    assert len(readings.expected) == 1
    assert len(readings.signs) == 5
    expected = torch.nn.functional.binary_cross_entropy_with_logits(readings.signs, together["signs"])
    assert torch.isclose(terms["signs"], expected)
    assert torch.isclose(terms["mse"], (readings.expected - together["latents"]).square().mean())


def radiographs_of_the_second_sign() -> dict[str, torch.Tensor]:
    """Four radiographs beside four with latents: a bright patch in the first two stands for the second
    sign."""
    module = encoder(atlas=False, sign_maps=len(SIGNS))
    beside = {f"latent_{name}": value for name, value in batch(4, module).items()}
    radiographs = {name: value for name, value in batch(4, module).items() if name != "latents"}
    radiographs["image"] = 0.1 * radiographs["image"]
    radiographs["signs"], radiographs["shadows"] = (
        torch.zeros(4, len(SIGNS)),
        torch.zeros(4, len(SIGNS), 16, 8),
    )
    for case, (row, column) in enumerate([(2, 1), (10, 5)]):
        radiographs["image"][case, :, 4 * row : 4 * row + 16, 8 * column : 8 * column + 16] = 1.0
        radiographs["shadows"][case, 1, row : row + 4, column : column + 2] = 1
        radiographs["signs"][case, 1] = 1
    return radiographs | beside


def test_radiographs_with_shadows_of_signs_teach_where_each_can_be_seen() -> None:
    module, radiographs = encoder(atlas=False, sign_maps=len(SIGNS)), radiographs_of_the_second_sign()
    stage = XrayEncoderStage(module, 0.0, 0.0, torch.ones(1, 2, 1, 1, 1), 4, sign_weight=1.0)
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    for _ in range(80):
        loss, terms = stage.loss(stage.module, radiographs, torch.Generator())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        features = module(radiographs["image"])
    shown, hidden = (features.signs[:, 1][radiographs["shadows"][:, 1] == bit].sigmoid() for bit in (1, 0))
    assert shown.mean() > hidden.mean() + 0.5
    strongest = features.strongest_signs[:, 1, 0]
    assert strongest[:2].min() > strongest[2:].max()
    assert {"places", "shown"} <= set(terms)


@pytest.mark.parametrize("timestep", [1, 500, 900, 999])
def test_the_denoiser_gets_a_gradient_at_every_noise_level_and_the_encoder_none(
    timestep: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = encoder(atlas=True)
    denoiser = SpatialDenoiser(
        2, module.spatial_channels, 16, (8,), 16, residual_std=(1.0, 1.0), map_std=(0.1, 0.1, 0.1)
    )
    torch.nn.init.normal_(denoiser.leave.weight, std=0.05)  # it starts at zero, and so would all gradients
    stage = DenoiserStage(
        denoiser, module, DDPMScheduler(prediction_type="v_prediction"), 0.1, torch.ones(1, 5, 1, 1, 1)
    )
    asked = torch.full((2,), (timestep + 0.5) / 1000)
    monkeypatch.setattr(torch, "sigmoid", lambda _: asked)
    loss, _ = stage.loss(denoiser, batch(2, module), torch.Generator().manual_seed(0))
    loss.backward()
    gradients = [p.grad for p in denoiser.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)
    assert all(g.abs().max() > 0 for g in (denoiser.enter.weight.grad, denoiser.leave.weight.grad))
    assert all(p.grad is None for p in module.parameters())


def consistency_stage(temperature: float) -> tuple[ConsistencyStage, XrayEncoder, DDPMScheduler]:
    """A student of a teacher with random weights."""
    module = encoder(atlas=False)
    student = SpatialDenoiser(2, module.spatial_channels, 16, (32,), 16)
    torch.nn.init.normal_(student.leave.weight, std=0.1)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
    stage = ConsistencyStage(student, module, scheduler, 0.0, torch.ones(1, 2, 1, 1, 1), temperature)
    return stage, module, scheduler


def test_at_the_lowest_level_the_student_is_held_to_the_teacher_and_above_it_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, module, _ = consistency_stage(0.3)
    data, losses = batch(2, module), {}
    for level in (1, 2, CONSISTENCY_LEVELS):
        monkeypatch.setattr(torch, "randint", lambda *_, level=level, **__: torch.full((2,), level))
        loss, terms = stage.loss(stage.module, data, torch.Generator().manual_seed(0))
        losses[level] = float(loss.detach())
        assert set(terms) == {"latents"}
        loss.backward()
        gradients = [p.grad for p in stage.module.parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        assert all(p.grad is None for p in module.parameters())
    assert losses[1] == 0
    assert losses[2] > 0
    assert losses[CONSISTENCY_LEVELS] > 0


def test_the_student_learns_where_the_teachers_trajectories_end() -> None:
    stage, module, scheduler = consistency_stage(1.0)
    data = batch(2, module)
    conditioning = module.condition(data["image"])
    teacher = copy.deepcopy(stage.module)
    noise = torch.randn(2, 2, *GRID, generator=torch.Generator().manual_seed(3))

    def sampled(network: torch.nn.Module, name: str, steps: int) -> torch.Tensor:
        def model(sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
            return network(sample, timestep, conditioning)

        return sample_latents(model, make_scheduler(name, scheduler), noise, steps, torch.Generator())

    end = sampled(teacher, "ddim", CONSISTENCY_LEVELS)
    before = (sampled(stage.module, FEW_STEP, 1) - end).square().mean()
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        loss, _ = stage.loss(stage.module, data, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = (sampled(stage.module, FEW_STEP, 1) - end).square().mean()
    assert after < 0.7 * before, float(after / before)


def evidence_case(seen: list[tuple[int, int, tuple[int, int, int]]]) -> dict[str, torch.Tensor]:
    """Four patients of quiet latents; of each (patient, kind, corner) a bright box of two cells a side, whose
    channel tells clots (kind 0) from signs."""
    latents, evidence = 0.1 * torch.randn(4, 2, 16, 16, 16), torch.zeros(4, len(EVIDENCE), 16, 16, 16)
    for patient, kind, (z, y, x) in seen:
        box = (slice(z, z + 2), slice(y, y + 2), slice(x, x + 2))
        latents[patient, int(kind > 0)][box] = 4.0
        evidence[patient, kind][box] = 1.0
    return {"latents": latents, "evidence": evidence, "label": torch.tensor([1.0, 1.0, 0.0, 0.0])}


def test_the_classifier_finds_each_kind_of_evidence_where_it_is_shown() -> None:
    """Whatever the augmentation shifts; a kind that nobody shows stays unseen."""
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, evidence_maps=len(EVIDENCE))
    stage = PEClassifierStage(classifier, noise=0.1)
    where = [(4, 4, 4), (10, 6, 8)]
    data = evidence_case([(0, 0, where[0]), (1, 0, where[1]), (1, 2, where[0]), (2, 2, where[1])])
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        loss, terms = stage.loss(stage.module, data, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert terms["patients"] < 0.15
    reading = classifier.eval().read(data["latents"])
    assert reading.maps is not None
    for patient, kind, (z, y, x) in [(0, 0, where[0]), (1, 0, where[1]), (1, 2, where[0]), (2, 2, where[1])]:
        place = (z // 2) * 64 + (y // 2) * 8 + x // 2
        assert int(reading.maps[patient, kind].argmax()) == place
        assert reading.maps[patient, kind].max() > 0
    for patient, kind in [(0, 2), (2, 0), (3, 0), (3, 2), (0, 5)]:
        assert reading.maps[patient, kind].max() < 0
    with torch.no_grad():
        classifier.readout.weight.fill_(1.0)
        classifier.shown.weight[:, 0, 0] = 2.0
    heat = gradcam_map(classifier, classifier.gradcam_layer, data["latents"][:1], (16, 16, 16))
    assert np.unravel_index(heat.argmax(), heat.shape) in list(itertools.product((4, 5), repeat=3))
    assert heat[8:].max() < 0.2, "heat lies on the evidence alone"


def test_without_masks_the_classifier_learns_from_labels_alone() -> None:
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0)
    stage = PEClassifierStage(classifier, noise=0.1)
    data = {"latents": torch.randn(2, 2, 16, 16, 16), "label": torch.tensor([1.0, 0.0])}
    loss, terms = stage.loss(stage.module, data, torch.Generator().manual_seed(0))
    assert set(terms) == {"pe", "accuracy"}
    assert torch.equal(loss.detach(), terms["pe"])


def shown_by(present: np.ndarray, faint: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, M, 3) of the strongest places, and their probability, of what patients have (N, M)."""
    noise = 0.5 * rng.standard_normal((*present.shape, 1))
    logits = (faint * (6.0 * present[..., None] - 3.0) + noise - np.array([0.0, 1.0, 2.0])).astype(np.float32)
    return logits, expit(logits[..., 0])


def test_the_readout_weighs_signs_by_their_odds_and_clots_by_the_labels() -> None:
    """In generated volumes signs are fainter and clots are missing: both groups are read by one readout."""
    rng = np.random.default_rng(0)
    n, names = 400, [sign.name for sign in SIGNS]
    pe = rng.random(n) < 0.5
    signs = np.array([[rng.random() < sign.rate(patient) for sign in SIGNS] for patient in pe])
    odds = np.array([logit(sign_probability(dict(zip(names, row, strict=True)))) for row in signs])
    present = np.concatenate([pe[:, None], signs], 1)
    own = Evidence(*shown_by(present, 1.0, rng), present, odds)
    without_clots = np.concatenate([np.zeros((n, 1)), signs], 1)
    generated = Evidence(*shown_by(without_clots, 0.5, rng), present, odds)
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, evidence_maps=len(EVIDENCE))
    gains = fit_shown(classifier, own)
    assert min(gains) > 10
    assert min(fit_readout(classifier, [own, generated])) > 0.95
    assert roc_auc_score(pe, logits_of(classifier, own)) > 0.99, "the clots tell"
    ceiling = roc_auc_score(pe, odds)
    assert roc_auc_score(pe, logits_of(classifier, generated)) == pytest.approx(ceiling, abs=0.03)


def test_what_every_volume_shows_alike_is_no_evidence() -> None:
    """Strong places in everybody, which say a little of who has the sign, count a little; else not at all."""
    rng = np.random.default_rng(1)
    present = rng.random((300, len(EVIDENCE))) < 0.4
    logits, places = shown_by(present, 1.0, rng)
    everybody = 4.0 + 0.5 * present[:, 8] + 0.5 * rng.standard_normal(300)
    logits[:, 8], places[:, 8] = everybody[:, None], expit(everybody)
    by_chance = 4.0 + rng.standard_normal(300)
    logits[:, 3], places[:, 3] = by_chance[:, None], expit(by_chance)
    logits[:, 5] *= -1  # strong places in those who do not have it
    evidence = Evidence(logits, places, present, np.zeros(300))
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, evidence_maps=len(EVIDENCE))
    gains = fit_shown(classifier, evidence)
    assert [kind for kind, gain in enumerate(gains) if not gain] == [3, 5]
    told = counted(classifier, evidence)
    assert told[:, [3, 5]].max() < 1e-6
    assert 0.2 < told[~present[:, 8], 8].mean() < 0.4 < told[present[:, 8], 8].mean() < 0.6
    assert told[~present[:, 1], 1].mean() < 0.1 < 0.8 < told[present[:, 1], 1].mean()


def test_evidence_is_kept_and_read_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, evidence_maps=len(EVIDENCE))
    torch.nn.init.normal_(classifier.shown.weight)
    has = [[True] + 8 * [False], [False, True] + 7 * [False]]
    volumes = [(torch.randn(1, 2, 16, 16, 16), 0.3, has[0]), (torch.randn(1, 2, 16, 16, 16), 0.6, has[1])]
    evidence = read_evidence(classifier, volumes)
    with torch.no_grad():
        logits = [float(classifier(latents)) for latents, _, _ in volumes]
    evidence.save(tmp_path / "evidence.npz")
    again = Evidence.load(tmp_path / "evidence.npz")
    assert logits_of(classifier, again) == pytest.approx(logits, abs=1e-5)
    assert again.log_odds == pytest.approx([logit(0.3), logit(0.6)])
    assert again.labels.tolist() == [1, 0]
    assert again.present.tolist() == has
    with pytest.raises(InputError, match="with and without PE"):
        fit_readout(classifier, [again._replace(present=np.ones((2, 9), bool))])
    with pytest.raises(ValueError, match="evidence maps"):
        read_evidence(PEClassifier(2, 8, 4, (2, 2), 0.0), volumes)


def test_a_quarter_of_the_volumes_reach_full_heat(repository: Path) -> None:
    """Heat rises with the one channel that the logit reads."""
    module: Any = module_of(repository, "calibrate.py")

    class Mean(torch.nn.Module):
        gradcam_layer = "relu"

        def __init__(self) -> None:
            super().__init__()
            self.relu = torch.nn.ReLU()

        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return self.relu(latents).mean((1, 2, 3, 4))[:, None]

    pipeline = SimpleNamespace(
        pe_classifier=Mean(), bundle=SimpleNamespace(geometry=SimpleNamespace(grid=(4, 4, 4)))
    )
    cases = [torch.full((1, 1, 4, 4, 4), float(value)) for value in range(1, 6)]
    heats = [module.full_heat(pipeline, [case]) for case in cases]
    assert heats == sorted(heats)
    assert module.full_heat(pipeline, cases) == pytest.approx(heats[3])
    assert module.full_heat(pipeline, [-cases[0]]) is None
    assert module.full_heat(pipeline, []) is None


def test_the_radiographs_head_reads_the_signs_odds_off_the_embedding() -> None:
    module = encoder(atlas=False)
    torch.manual_seed(2)
    images = torch.rand(60, 1, 1, 64, 64)
    shown = torch.arange(60) % 2 == 0
    images[shown, :, :, 32:] *= 0.3
    radiographs = [(image, 0.7 if sign else 0.3) for image, sign in zip(images, shown, strict=True)]
    fit_radiograph_head(module, radiographs[:40])
    with torch.no_grad():
        logits = module(images[40:, 0]).pe_logit
    assert logits[::2].min() > logits[1::2].max()
    assert logits[::2].mean() == pytest.approx(logit(0.7), abs=0.3)
