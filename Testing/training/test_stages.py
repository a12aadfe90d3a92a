"""What the stages learn from: each term reaches the weights it is for, and no others."""

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from stage_scripts import module_of

from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.diffusion.sampling import sample_latents
from xray2ctpa_core.diffusion.schedulers import CONSISTENCY_LEVELS, FEW_STEP, make_scheduler
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.xray_encoder import XrayEncoder
from xray2ctpa_core.simulation.signs import SIGNS
from xray2ctpa_core.training.stages.consistency import ConsistencyStage
from xray2ctpa_core.training.stages.denoiser import DenoiserStage
from xray2ctpa_core.training.stages.xray_encoder import XrayEncoderStage

GRID = (16, 8, 8)


def encoder(atlas: bool) -> XrayEncoder:
    torch.manual_seed(0)
    shape = (16, 32, 32) if atlas else None
    module = XrayEncoder((8, 8, 16), GRID, 4, 16, 2, shape, 3, 4, 8)
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


def test_a_quarter_of_the_volumes_reach_full_heat(repository: Path) -> None:
    """Heat rises with the one channel that the logit reads."""
    module: Any = module_of(repository, "steps/calibrate.py")

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
