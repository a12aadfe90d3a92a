"""What the stages learn from: each term reaches the weights it is for, and no others."""

import pytest
import torch
from diffusers import DDPMScheduler

from xray2ctpa_core.cohort.signs import SIGNS
from xray2ctpa_core.constants import MAP_GRID
from xray2ctpa_core.networks.denoiser import SpatialDenoiser
from xray2ctpa_core.networks.pe_classifier import PEClassifier
from xray2ctpa_core.networks.xray_encoder import XrayEncoder
from xray2ctpa_core.training.denoiser import DenoiserStage
from xray2ctpa_core.training.pe_classifier import PEClassifierStage, fit_readout
from xray2ctpa_core.training.xray_encoder import XrayEncoderStage

GRID = (16, 8, 8)


def encoder(atlas: bool) -> XrayEncoder:
    torch.manual_seed(0)
    module = XrayEncoder((8, 8, 16), GRID, 4, 16, 2, (16, 32, 32) if atlas else None, 3, 4, 8)
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


def test_films_without_volumes_teach_the_map_and_the_signs_beside_those_with() -> None:
    module = encoder(atlas=True)
    stage = XrayEncoderStage(module, 4.0, 0.1, torch.ones(1, 2, 1, 1, 1), dense_every=4)
    beside = {f"latent_{name}": value for name, value in batch(4, module).items()}
    films = {name: value.flip(0) for name, value in batch(4, module).items() if name != "latents"}
    _, terms = stage.loss(stage.module, films | beside, torch.Generator())
    # One case of four has its latents learned; its map, and those of the four films, count alike.
    together = {name: torch.cat([beside[f"latent_{name}"][:1], films[name]]) for name in films} | {
        "latents": beside["latent_latents"][:1]
    }
    readings = stage.module(together["image"], together["template_map"], 1)
    assert len(readings.expected) == 1
    assert len(readings.signs) == 5
    expected = torch.nn.functional.binary_cross_entropy_with_logits(readings.signs, together["signs"])
    assert torch.isclose(terms["signs"], expected)
    assert torch.isclose(terms["mse"], (readings.expected - together["latents"]).square().mean())


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


def test_the_classifier_finds_the_place_it_is_shown() -> None:
    """A bright cell is clot: the clot map learns where, wherever the augmentation shifts it."""
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, clot_head=True)
    stage = PEClassifierStage(classifier, noise=0.1, clot_weight=5.0)
    latents, clots = 0.1 * torch.randn(4, 2, 16, 16, 16), torch.zeros(4, 16, 16, 16)
    for case, where in enumerate([(4, 4, 4), (10, 6, 8)]):
        place = (slice(where[0], where[0] + 2), slice(where[1], where[1] + 2), slice(where[2], where[2] + 2))
        latents[case, 0][place] = 4.0
        clots[case][place] = 1.0
    data = {
        "latents": latents,
        "clots": clots,
        "label": torch.tensor([1.0, 1.0, 0.0, 0.0]),
        "signs": torch.zeros(4, len(SIGNS)),
        "sign_probability": torch.full((4,), 0.5),
    }
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        loss, terms = stage.loss(stage.module, data, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert terms["accuracy"] == 1.0
    seen = classifier.eval().read(latents).clots
    assert seen is not None
    assert [int(case.argmax()) for case in seen[:2]] == [
        (z // 2) * 64 + (y // 2) * 8 + x // 2 for z, y, x in [(4, 4, 4), (10, 6, 8)]
    ]


def test_signs_are_learned_although_clots_tell_the_label() -> None:
    """Of four patients two have clots, two have a sign: only what is without clots follows the signs."""
    torch.manual_seed(0)
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, clot_head=True)
    stage = PEClassifierStage(classifier, noise=0.1, clot_weight=5.0, signs_weight=1.0)
    latents, clots = 0.1 * torch.randn(4, 2, 16, 16, 16), torch.zeros(4, 16, 16, 16)
    latents[:2, 0, 4:6, 4:6, 4:6] = 4.0
    clots[:2, 4:6, 4:6, 4:6] = 1.0
    shown = torch.tensor([1.0, 0.0, 1.0, 0.0])
    latents[:, 1, 8:] += 2.0 * shown[:, None, None, None]
    data = {
        "latents": latents,
        "clots": clots,
        "label": torch.tensor([1.0, 1.0, 0.0, 0.0]),
        "signs": shown[:, None].expand(4, len(SIGNS)),
        "sign_probability": 0.2 + 0.6 * shown,
    }
    optimiser = torch.optim.Adam(stage.module.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        loss, _ = stage.loss(stage.module, data, generator)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    reading = classifier.eval().read(latents)
    assert ((reading.logit[:, 0] > 0).float() == data["label"]).all()
    assert torch.allclose(reading.without_clots[:, 0].sigmoid(), data["sign_probability"], atol=0.15)


def test_without_clot_masks_the_classifier_learns_from_labels_alone() -> None:
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0)
    stage = PEClassifierStage(classifier, noise=0.1)
    data = {"latents": torch.randn(2, 2, 16, 16, 16), "label": torch.tensor([1.0, 0.0])}
    loss, terms = stage.loss(stage.module, data, torch.Generator().manual_seed(0))
    assert set(terms) == {"pe", "accuracy"}
    assert torch.equal(loss.detach(), terms["pe"])


def test_the_readout_tells_signs_by_their_place() -> None:
    """Fluid at the bottom means PE, the same at the top does not."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    patients = []
    for number in range(48):
        latents = 0.1 * torch.randn(2, 16, 16, 16, generator=generator)
        shown = number % 2 == 0
        latents[0, :8] += 2.0 * (not shown)
        latents[0, 8:] += 2.0 * shown
        probability = torch.tensor(0.8 if shown else 0.2)
        label = torch.bernoulli(probability, generator=generator)
        patients.append({"latents": latents, "sign_probability": probability, "label": label})
    classifier = PEClassifier(2, 8, 4, (2, 2), 0.0, clot_head=True, places=(2, 1, 1))
    assert classifier.feature_count == 2 * PEClassifier(2, 8, 4, (2, 2), 0.0).feature_count
    assert fit_readout(classifier, patients[:32]) > 0.95
    with torch.no_grad():
        logits = [float(classifier.read(patient["latents"][None]).without_clots) for patient in patients[32:]]
    assert min(logits[::2]) > max(logits[1::2])
