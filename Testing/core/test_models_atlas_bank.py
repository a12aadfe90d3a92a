"""A bank of atlases: what bends, what is shared, what is read off a radiograph, what is diffused."""

from dataclasses import replace

import pytest
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from evaluation_cohort import bundle
from people_phantoms import phantoms
from torch.nn import functional
from torch.utils.data import default_collate

from xray2ctpa_core.constants import FRAME_MARGIN, MAP_GRID
from xray2ctpa_core.data.drawn_patients import DrawnPatients
from xray2ctpa_core.diffusion.bent import bent_map, person_of, to_diffused_bank
from xray2ctpa_core.diffusion.residual import sampled_map, to_latents
from xray2ctpa_core.diffusion.sampling import sample_latents
from xray2ctpa_core.errors import BundleError, ConfigError
from xray2ctpa_core.models.classifiers.region_classifier import RegionClassifier
from xray2ctpa_core.models.codecs.codec import Codec
from xray2ctpa_core.models.codecs.fold_codec import FoldCodec
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.denoisers.spatial import SpatialDenoiser
from xray2ctpa_core.models.encoders.atlas_bank import AtlasBank, parted
from xray2ctpa_core.models.encoders.bank_encoder import BankEncoder, moved
from xray2ctpa_core.models.encoders.oriented_gradients import (
    CELLS,
    FEATURES,
    ORIENTATIONS,
    by_cell,
    oriented_gradients,
    radiograph_features,
)
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.models.protocols import RadiographEncoder
from xray2ctpa_core.pipelines.bundle import CXRPreprocessing
from xray2ctpa_core.pipelines.pipeline import XRay2CTPAPipeline
from xray2ctpa_core.preprocessing.frame import NORMALISATION
from xray2ctpa_core.simulation.people.drawing import Shape
from xray2ctpa_core.training.bank_read_outs import (
    ReadPatients,
    between_lungs,
    fit_open_components,
    fit_read_outs,
    fit_regions,
    log_odds,
)
from xray2ctpa_core.training.stages.bank_denoiser import BankDenoiserStage, OpenPatients

Tensors = dict[str, torch.Tensor]


def identity_map() -> torch.Tensor:
    """(1, 3, *MAP_GRID): every point of the frame is the bank's same point."""
    axes = [torch.linspace(-1, 1, n) for n in MAP_GRID]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flip(0)[None]


@pytest.fixture(scope="module")
def patients() -> Tensors:
    data = DrawnPatients(phantoms(), Shape((32, 32, 32), 64, (1, 1, 1)))
    return default_collate(data.__getitems__([(0, seed) for seed in range(8)]))


@pytest.fixture
def encoder(patients: Tensors) -> BankEncoder:
    encoder = BankEncoder(2, (23, 17, 23), (32, 32, 32), (2, 4, 4), 5, (16, 16, 16))
    volumes = torch.full((2, 23, 17, 23), -1.0)
    volumes[0, 6:17, 5:12, 6:17] = 0.0
    volumes[1, 6:17, 5:12, 6:17] = 0.4
    encoder.bank.set_volumes(volumes)
    fit_read_outs(encoder, ReadPatients.of(encoder, [patients], [True, True]))
    return encoder.eval()


def test_voxels_are_folded_into_channels_and_back_without_loss() -> None:
    codec = FoldCodec((2, 4, 4))
    volumes = torch.rand(2, 1, 8, 16, 12)
    latents = codec.encode(volumes)
    assert isinstance(codec, Codec)
    assert latents.shape == (2, codec.latent_channels, 4, 4, 3)
    assert torch.equal(codec.decode(latents), volumes)
    assert sorted(latents[0, :, 1, 2, 0].tolist()) == sorted(volumes[0, 0, 2:4, 8:12, 0:4].flatten().tolist())
    assert torch.equal(codec.decode_slices(latents, torch.tensor([0.0, 0.99]))[1], volumes[1, :, 7])


def test_a_volume_that_cells_do_not_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="divide"):
        FoldCodec((2, 4, 4)).encode(torch.rand(1, 1, 7, 16, 16))


def test_an_unbent_person_is_the_persons_volume_and_a_shifted_map_shifts_it() -> None:
    bank = AtlasBank(2, (9, 9, 9))
    bank.intensities[1, 4, 4, 6] = 255
    same = bank(identity_map(), torch.tensor([1]), (9, 9, 9))
    assert same[0, 0, 4, 4, 6] == pytest.approx(1.0, abs=1e-5)
    assert same.sum() == pytest.approx(2 - 9**3, abs=1e-2)
    shifted = identity_map()
    shifted[:, 0] += 2 * 2 / 8
    assert bank(shifted, torch.tensor([1]), (9, 9, 9))[0, 0, 4, 4, 4] == pytest.approx(1.0, abs=1e-5)


def test_what_is_coarse_and_what_is_fine_add_up() -> None:
    volumes = torch.zeros(2, 24, 24, 24)
    volumes[0] += 0.4
    volumes[0, 12, 12, 12] += 0.5
    coarse, fine = parted(volumes, 2.0)
    assert torch.allclose(coarse + fine, volumes, atol=1e-6)
    assert coarse[0, 2, 2, 2] == pytest.approx(0.4, abs=0.01)
    assert fine[0, 12, 12, 12] == pytest.approx(0.5, abs=0.02)


def test_oriented_gradients_do_not_change_with_exposure() -> None:
    image = torch.rand(1, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    features = oriented_gradients(image)
    assert features.shape == (1, ORIENTATIONS * CELLS**2)
    assert torch.allclose(features, oriented_gradients(0.8 * image + 0.1), atol=0.02)
    assert not torch.allclose(features, oriented_gradients(image.flip(-1)), atol=0.1)


def test_a_radiographs_features_are_its_gradients_then_its_greys() -> None:
    image = torch.full((1, 1, 96, 96), 0.25)
    features = radiograph_features(image)
    assert features.shape == (1, FEATURES)
    assert features[0, : ORIENTATIONS * CELLS**2].abs().max() == 0
    assert torch.allclose(features[0, ORIENTATIONS * CELLS**2 :], torch.tensor(0.5))


def test_cells_hold_all_that_features_add() -> None:
    products = torch.rand(2, FEATURES, generator=torch.Generator().manual_seed(0))
    cells = by_cell(products)
    assert cells.shape == (2, 1, CELLS, CELLS)
    assert torch.allclose(cells.flatten(1).sum(1), products.sum(1), rtol=1e-4)


def test_means_and_parts_hold_what_made_them(encoder: BankEncoder, patients: Tensors) -> None:
    assert (encoder.mean_map - patients["template_map"].mean(0)).abs().mean() < 0.02
    assert encoder.coarse_parts.abs().flatten(1).amax(1).tolist() == [127] * 5


def test_the_read_out_tells_its_patients_maps_and_coarse_volumes(
    encoder: BankEncoder, patients: Tensors
) -> None:
    features = encoder(patients["image"])
    true = torch.nn.functional.adaptive_avg_pool3d(patients["volume"], 16)
    for made, mean, truth in (
        (features.template_map, encoder.mean_map, patients["template_map"]),
        (features.coarse, encoder.mean_coarse, true),
    ):
        assert (made - truth).square().mean() < 0.6 * (mean - truth).square().mean()


def test_a_distance_is_in_deviations_of_the_radiographs_of_training(
    encoder: BankEncoder, patients: Tensors
) -> None:
    features = encoder(patients["image"], 0)
    distance = encoder.distance(features).detach()
    assert distance.square().mean() == pytest.approx(7 / 8, rel=0.01), (
        "of 8 patients, on their own deviations"
    )
    assert encoder.config["usual_distance"] == pytest.approx(float(distance.quantile(0.95)), rel=0.01)
    thrice = replace(features, embedding=3 * features.embedding)
    assert torch.allclose(encoder.distance(thrice), 3 * distance)


def test_of_an_encoder_that_does_not_state_it_no_distance_is_known(patients: Tensors) -> None:
    unfitted = BankEncoder(2, (23, 17, 23), (32, 32, 32), (2, 4, 4), 5, (16, 16, 16))
    assert unfitted.distance(unfitted(patients["image"], 0)) is None


def test_a_sample_is_nearer_to_the_coarse_volume_by_the_share(encoder: BankEncoder) -> None:
    bent, coarse = torch.zeros(1, 1, 32, 32, 32), torch.full((1, 1, 16, 16, 16), 0.5)
    assert torch.allclose(encoder.nearer(bent, coarse, 0.3), torch.tensor(0.15))


def test_around_the_body_a_sample_is_air_unless_tissue_is_expected_there(encoder: BankEncoder) -> None:
    air, outside = torch.full((1, 1, 32, 32, 32), -1.0), torch.ones(1, 1, 32, 32, 32)
    fog, tissue = torch.full((1, 1, 16, 16, 16), -0.9), torch.zeros(1, 1, 16, 16, 16)
    assert torch.allclose(encoder.nearer(air, fog, 0.5), torch.tensor(-0.95))
    assert torch.allclose(encoder.nearer(air, fog, 0.5, 0 * outside), torch.tensor(-0.95))
    assert torch.allclose(encoder.nearer(air, fog, 0.5, outside), torch.tensor(-1.0))
    assert torch.allclose(encoder.nearer(air, tissue, 0.5, outside), torch.tensor(-0.5))


def test_air_that_the_body_encloses_is_not_outside() -> None:
    bank = AtlasBank(1, (23, 17, 23))
    volume = torch.full((1, 23, 17, 23), -1.0)
    volume[0, 6:17, 3:14, 6:17] = 0.0
    volume[0, 8:15, 6:11, 8:15] = -0.9
    bank.set_volumes(volume)

    outside = bank.outside(identity_map(), (23, 34, 46))[0, 0]

    assert outside[11, 17, 23] == 0
    assert outside[11, 1, 23] == outside[11, 17, 2] == outside[1, 17, 23] == 1


def test_what_cells_add_is_the_logit_of_pe(encoder: BankEncoder, patients: Tensors) -> None:
    image = patients["image"]
    assert torch.allclose(encoder.explained(image)[:, 0], encoder(image, 0).pe_logit, atol=1e-3)


def test_regions_tell_the_log_odds_of_the_signs(patients: Tensors) -> None:
    classifier = RegionClassifier((2, 2, 2))
    latents = FoldCodec((2, 4, 4)).encode(patients["volume"])
    signs = torch.zeros(8, patients["signs"].shape[1])
    signs[latents.mean((1, 2, 3, 4)).argsort()[4:], 0] = 1
    assert len(log_odds(signs).unique()) == 2
    lungs = torch.ones(32, 32, 32)
    fit_regions(classifier, [classifier.measures(latents)], signs, lungs, ridge=1e-6)
    logits = classifier(latents)
    assert logits.shape == (8, 1)
    assert torch.corrcoef(torch.stack([logits[:, 0].detach(), log_odds(signs)]))[0, 1] > 0.9


def test_the_encoder_keeps_its_protocol_and_its_weights(encoder: BankEncoder, tmp_path) -> None:
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    conditioning = encoder.condition(image)
    assert isinstance(encoder, RadiographEncoder)
    assert conditioning.embedding.shape == (1, encoder.embedding_dim)
    assert conditioning.spatial is None, "the map says where"
    encoder.save_pretrained(tmp_path)
    again = BankEncoder.from_pretrained(tmp_path)
    assert torch.allclose(again.condition(image).embedding, conditioning.embedding, atol=1e-5)
    expected, kept = (one.expected_volume(one(image)) for one in (encoder, again))
    assert torch.allclose(expected, kept, atol=1e-5)


@pytest.fixture
def opened(encoder: BankEncoder, patients: Tensors) -> tuple[BankDenoiser, OpenPatients, torch.Tensor]:
    """A denoiser of as many components as patients, whose maps they give exactly; the patients' numbers."""
    torch.manual_seed(0)
    denoiser = BankDenoiser(2, len(patients["image"]), encoder.embedding_dim, 16)
    embedding, numbers = fit_open_components(denoiser, encoder, [patients])
    return denoiser, OpenPatients(embedding, numbers), numbers


def test_what_was_diffused_is_one_persons_tissue_under_its_map(
    encoder: BankEncoder, patients: Tensors, opened: tuple[BankDenoiser, OpenPatients, torch.Tensor]
) -> None:
    denoiser, _, numbers = opened
    conditioning = encoder.condition(patients["image"][:2])
    true_map, person = patients["template_map"][:2], torch.tensor([0, 1])
    diffused = to_diffused_bank(2, person, numbers[:2])
    assert diffused.shape == (2, *denoiser.diffused_shape)
    assert torch.equal(person_of(denoiser, diffused), person)
    assert torch.equal(
        sampled_map(denoiser, conditioning, diffused), bent_map(denoiser, conditioning, diffused)
    )
    assert (bent_map(denoiser, conditioning, diffused) - true_map).abs().mean() < 0.02
    nothing = torch.cat([diffused[:, :2], torch.zeros_like(diffused[:, 2:])], 1)
    latents = to_latents(denoiser, conditioning, nothing, None, true_map)
    tissue = encoder.volume(conditioning.features, true_map, person)
    assert torch.allclose(latents, encoder.fold(tissue), atol=1e-4)


def test_the_expected_volume_is_moved_as_the_drawn_map_departs() -> None:
    """A plane of 32, by a map that is steeper by a half: the body is thinner by a third."""
    expected = identity_map()
    drawn = expected * torch.tensor([1.0, 1.5, 1.0]).view(1, 3, 1, 1, 1)
    volume = torch.zeros(1, 1, 8, 32, 8)
    volume[:, :, :, 4] = 1
    there = moved(volume, expected, drawn)[0, 0, 4, :, 4]
    rows = (torch.arange(32) + 0.5) / 16 - 1
    assert int(there.argmax()) == int((1.5 * rows - rows[4]).abs().argmin())
    assert torch.allclose(moved(volume, expected, expected), volume, atol=1e-5)


def test_a_bank_needs_its_own_denoiser(encoder: BankEncoder) -> None:
    info = bundle(cxr=CXRPreprocessing(FRAME_MARGIN, 64, NORMALISATION))
    other = SpatialDenoiser(2, 4, encoder.embedding_dim, (8,), 16)
    with pytest.raises(
        BundleError, match="Expected a BankDenoiser with a bank of atlases, got SpatialDenoiser"
    ):
        XRay2CTPAPipeline(
            FoldCodec((2, 4, 4)), other, DDPMScheduler(), encoder, None, LungLocator((8, 8), 32), info
        )


def test_open_components_have_unit_variance_and_lie_across_each_other(
    opened: tuple[BankDenoiser, OpenPatients, torch.Tensor],
) -> None:
    denoiser, _, numbers = opened
    used = denoiser.map_parts.flatten(1).norm(dim=1) > 1e-4
    assert used.sum() > 1
    assert torch.allclose(numbers[:, used].square().mean(0), torch.ones(int(used.sum())), atol=1e-2)
    parts = functional.normalize(denoiser.map_parts[used].flatten(1))
    assert torch.allclose(parts @ parts.T, torch.eye(len(parts)), atol=1e-4)


def test_samples_of_a_trained_denoiser_vary_as_the_patients_do() -> None:
    """Two people, as often; three numbers with deviations of 1, whatever the radiograph."""
    torch.manual_seed(0)
    network, generator = BankDenoiser(2, 3, 5, 32), torch.Generator().manual_seed(0)
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    stage = BankDenoiserStage(network, scheduler)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    losses = []
    for _ in range(400):
        batch = {"embedding": torch.zeros(256, 5), "numbers": torch.randn(256, 3, generator=generator)}
        loss, terms = stage.loss(network, batch, generator)
        assert all(torch.isfinite(term) for term in terms.values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    solver = DPMSolverMultistepScheduler.from_config(scheduler.config)
    noise = torch.randn(256, *network.diffused_shape, generator=generator)
    embedding = torch.zeros(256, 5)
    sampled = sample_latents(lambda x, t: network(x, t, embedding), solver, noise, 10, generator)
    assert 0.35 < person_of(network, sampled).float().mean() < 0.65
    assert torch.allclose(sampled[:, 2:].flatten(1).std(0), torch.ones(3), atol=0.2)


def test_patients_of_the_stage_are_those_that_were_drawn(
    opened: tuple[BankDenoiser, OpenPatients, torch.Tensor],
) -> None:
    _, patients, numbers = opened
    assert len(patients) == len(numbers)
    assert torch.equal(patients[(1, 99)]["numbers"], numbers[1])


def test_regions_count_that_hold_lung_or_lie_between_lungs() -> None:
    lungs = torch.zeros(8, 8, 8)
    lungs[2:6, 2:6, 1] = lungs[2:6, 2:6, 6] = 1
    inside = between_lungs(lungs, (8, 8, 8))
    assert inside[3, 3].tolist() == [0, 1, 1, 1, 1, 1, 1, 0]
    assert inside[0].sum() == 0
    classifier, values = RegionClassifier((8, 8, 8)), torch.randn(6, 2, 8, 8, 8)
    fit_regions(classifier, [values], torch.eye(6, 8), lungs)
    assert classifier.weight[:, inside == 0].abs().max() == 0


def test_kept_patients_come_again_and_new_ones_do_not() -> None:
    people, shape = phantoms(), Shape((16, 16, 16), 32, (1, 1, 1))
    kept, new = DrawnPatients(people, shape, kept=8), DrawnPatients(people, shape)
    assert len(kept) == 8
    assert torch.equal(kept[(3, 1)]["image"], kept[(3, 2)]["image"])
    assert not torch.equal(new[(3, 1)]["image"], new[(3, 2)]["image"])


def test_the_mean_body_is_found_once_and_anew_for_other_volumes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body of 6 x 6 x 6 voxels of 12 x 12 x 12, then none."""
    bank, found = AtlasBank(2, (12, 12, 12)), []
    mean = AtlasBank.mean
    monkeypatch.setattr(AtlasBank, "mean", lambda self: found.append(1) or mean(self))
    volumes = torch.full((2, 12, 12, 12), -1.0)
    volumes[:, 3:9, 3:9, 3:9] = 0.2
    bank.set_volumes(volumes)
    with torch.inference_mode():
        first = bank.outside(identity_map(), (12, 12, 12)).clone()
    assert float(first[0, 0, 6, 6, 6]) == 0.0
    assert float(first[0, 0, 0, 0, 0]) == 1.0
    where = identity_map().requires_grad_()
    bank.outside(where, (12, 12, 12)).sum().backward()  # also by gradients, after inference
    assert len(found) == 1
    bank.set_volumes(torch.full((2, 12, 12, 12), -1.0))
    assert bank.outside(identity_map(), (12, 12, 12)).min() == 1.0
    bank.to("meta")
    assert bank.outside(identity_map().to("meta"), (12, 12, 12)).device.type == "meta"
    assert len(found) == 3
