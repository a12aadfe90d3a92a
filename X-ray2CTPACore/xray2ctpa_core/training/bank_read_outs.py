"""The read-outs of a bank's encoder, fitted by ridge regression in closed form to drawn patients or studies.

A deep network overfits to the few people of a bank. A strongly regularised linear read-out of oriented
gradients and greys generalises to other people and is fitted in seconds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch.nn import functional

from xray2ctpa_core.diffusion.bent import open_numbers
from xray2ctpa_core.errors import InputError
from xray2ctpa_core.models.classifiers.region_classifier import RegionClassifier
from xray2ctpa_core.models.denoisers.bank import BankDenoiser
from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BASIS_NODES, BankEncoder
from xray2ctpa_core.models.encoders.oriented_gradients import radiograph_features
from xray2ctpa_core.simulation.people.findings import SHOWN
from xray2ctpa_core.simulation.signs import sign_probability

#: Ridge penalties of map, coarse volume, and signs, as shares of the sum of all features' squared deviations.
MAP_RIDGE, COARSE_RIDGE, SIGN_RIDGE = 1e-4, 3e-4, 1e-3
#: Least mean share of lung in a region that counts for PE.
_SOME = 0.1
#: Share of patients whose distance is usual; least share of the greatest deviation that a component has.
_USUAL, _VARIES = 0.95, 1e-6
#: Least penalty: off equal radiographs nothing is read.
_LEAST = 1e-12
#: Slope from a linear score to a logit: scores of 0 and 1 become logits of -2 and 2.
_LOGIT = 4.0


@dataclass(frozen=True)
class ReadPatients:
    """What the read-outs are fitted to, of N patients.

    Attributes:
        features: (N, FEATURES) of the radiographs (models.encoders.oriented_gradients).
        maps: (N, 3, n, n, n) into the bank, on a few nodes; NaN where unknown.
        coarse: (N, D, H, W) in [-1, 1].
        signs: (N, S), pe: (N,), 0 or 1; NaN where unknown.
        enhanced: (N,) bool, whether the tissue has contrast medium.
    """

    features: torch.Tensor
    maps: torch.Tensor
    coarse: torch.Tensor
    signs: torch.Tensor
    pe: torch.Tensor
    enhanced: torch.Tensor

    @staticmethod
    def of(
        encoder: BankEncoder, batches: Iterable[dict[str, torch.Tensor]], enhanced: Sequence[bool]
    ) -> "ReadPatients":
        """Of patients: image, template_map, volume, signs, pe, person (data.drawn_patients); ``enhanced`` of
        each person."""
        flags = torch.tensor(list(enhanced))
        parts = [
            (
                radiograph_features(batch["image"]),
                resized(batch["template_map"].float(), (BASIS_NODES,) * 3),
                functional.adaptive_avg_pool3d(batch["volume"].float(), tuple(encoder.config["coarse"]))[
                    :, 0
                ],
                batch["signs"].float(),
                batch["pe"].float(),
                flags.to(batch["person"].device)[batch["person"]],
            )
            for batch in batches
        ]
        return ReadPatients(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def to(self, device: str) -> "ReadPatients":
        """On a device."""
        return ReadPatients(*(getattr(self, field.name).to(device) for field in fields(self)))

    def __getitem__(self, chosen: torch.Tensor) -> "ReadPatients":
        return ReadPatients(*(getattr(self, field.name)[chosen] for field in fields(self)))


@torch.no_grad()
def fit_read_outs(encoder: BankEncoder, patients: ReadPatients) -> None:
    """Sets everything of the encoder but its bank. The coarse volume is that of patients with contrast
    medium, as a CTPA has it; the radiograph shows none.

    Raises:
        InputError: nobody's map is known.
    """
    regression = Regression(patients.features.float())
    located = patients[known(patients.maps)]
    if not len(located.maps):
        raise InputError(
            f"Expected maps into the bank of some of {len(patients.maps)} studies, got none.",
            "Make them: map=true of the step ctpa.",
        )
    mean_map, nodes = located.maps.float().mean(0), (BASIS_NODES,) * 3
    encoder.mean_map.copy_(resized(mean_map[None], tuple(encoder.mean_map.shape[1:]))[0])
    change = resized(located.maps.float() - mean_map, nodes).flatten(1)
    of_located = regression.of(located.features)
    map_weight, map_parts = of_located.reduced(change, MAP_RIDGE, len(encoder.map_parts))
    encoder.map_parts.copy_(_filled(map_parts, encoder.map_parts))
    with_medium = patients[patients.enhanced] if bool(patients.enhanced.any()) else patients
    coarse = with_medium.coarse.float().flatten(1)
    encoder.mean_coarse.copy_(coarse.mean(0).view_as(encoder.mean_coarse))
    of_medium = regression.of(with_medium.features)
    weight, parts = of_medium.reduced(coarse - coarse.mean(0), COARSE_RIDGE, len(encoder.coarse_parts))
    greatest = parts.abs().amax(1, keepdim=True).clamp(min=1e-9)
    encoder.coarse_parts.copy_(_filled((parts / greatest * 127).round(), encoder.coarse_parts))
    findings = _findings(patients).to(weight)
    encoder.mean_features.copy_(regression.mean)
    weights = (map_weight, weight * greatest, regression.weights(findings - findings.mean(0), SIGN_RIDGE).T)
    widths = (len(encoder.map_parts), len(encoder.coarse_parts), findings.shape[1])
    padded = [
        functional.pad(some, (0, 0, 0, width - len(some)))
        for some, width in zip(weights, widths, strict=True)
    ]
    encoder.linear.weight.copy_(torch.cat(padded))
    encoder.linear.bias.zero_()
    encoder.linear.bias[-findings.shape[1] :] = findings.mean(0)
    state_distances(encoder, patients.features.float())


def known(maps: torch.Tensor) -> torch.Tensor:
    """(N,) bool: whose map (N, ...) is known."""
    return ~maps.flatten(1).isnan().any(1)


def _findings(patients: ReadPatients) -> torch.Tensor:
    """(N, S + 1) logits of the signs and of PE. PE is that of the signs where they are known, else of the
    label; what is unknown is the mean of what is known, 0 where nothing is."""
    signs, pe = patients.signs.float().cpu(), patients.pe.float().cpu()
    read = ~signs.isnan().all(1)
    odds = _LOGIT * (pe - 0.5)
    odds[read] = log_odds(signs[read])
    findings = torch.cat([_LOGIT * (signs - 0.5), odds[:, None]], 1)
    return torch.where(findings.isnan(), findings.nanmean(0).nan_to_num(), findings)


@torch.no_grad()
def fit_open_components(
    denoiser: BankDenoiser, encoder: BankEncoder, batches: Iterable[dict[str, torch.Tensor]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sets what is not trained of a denoiser: the components of what radiographs leave open of the map, each
    times its standard deviation, and the scale of the embedding.

    Args:
        denoiser, encoder: of one bank.
        batches: of N patients that taught the encoder nothing: image, template_map; those without a map
            (NaN) are left out.

    Returns:
        The patients' embedding (N, E), and their maps' numbers along the components (N, R).
    """
    changes, embeddings = [], []
    for batch in batches:
        kept = known(batch["template_map"])
        if not bool(kept.any()):
            continue
        features = encoder(batch["image"][kept])
        change = batch["template_map"][kept].float() - features.template_map
        changes.append(resized(change, (BASIS_NODES,) * 3))
        embeddings.append(features.embedding)
    nodes, embedding = torch.cat(changes), torch.cat(embeddings)
    change = nodes.flatten(1)
    components = _components(change, len(denoiser.map_parts))
    std = (change @ components.T).square().mean(0).sqrt()
    denoiser.map_parts.copy_(_filled(components * std[:, None], denoiser.map_parts))
    denoiser.embedding_mean.copy_(embedding.mean(0))
    spread = embedding.std(0, correction=0)
    widest = float(spread.max())  # 0 for equal radiographs
    denoiser.embedding_std.copy_(spread.clamp(min=_VARIES * widest) if widest else torch.ones_like(spread))
    return embedding, open_numbers(denoiser.map_parts, nodes)


@torch.no_grad()
def state_distances(encoder: BankEncoder, features: torch.Tensor) -> None:
    """Writes into the encoder's configuration how its read-outs of patients' features (N, FEATURES) vary, if
    they do."""
    count = len(encoder.map_parts) + len(encoder.coarse_parts)
    read = encoder.linear((features - encoder.mean_features).to(encoder.linear.weight))[:, :count].float()
    if not bool((read != read[0]).any()):
        return  # one radiograph, or equal ones
    std = read.std(0)
    std[std < _VARIES * std.max()] = 0  # components that were not needed
    used = std > 0
    distances = (read[:, used] / std[used]).square().mean(1).sqrt()
    rounded = [float(f"{value:.4g}") for value in std.tolist()]
    usual = float(f"{torch.quantile(distances, _USUAL):.4g}")
    encoder.register_to_config(read_std=tuple(rounded), usual_distance=usual)


@torch.no_grad()
def fit_regions(
    classifier: RegionClassifier,
    measures: Sequence[torch.Tensor],
    signs: torch.Tensor,
    lungs: torch.Tensor,
    ridge: float = 1e-2,
) -> None:
    """Sets a classifier's weights by ridge regression of the log-odds of PE given the signs.

    The labels themselves are noisier: of ten, the signs decide about six.

    Args:
        classifier: of latents.
        measures: the classifier's, of patients' latents, in batches.
        signs: (N, S) theirs, 0 or 1.
        lungs: (D, H, W) mean share of lung; regions count that hold some, or lie between two that do.
        ridge: penalty, as a share of the sum of all measures' squared deviations.
    """
    odds = log_odds(signs)
    inside = between_lungs(lungs, tuple(classifier.config["regions"]))
    regression = Regression((torch.cat(list(measures)) * inside).flatten(1))
    weight = regression.weights((odds - odds.mean())[:, None].to(regression.mean), ridge)
    classifier.mean.copy_(regression.mean.view_as(classifier.mean))
    classifier.weight.copy_(weight.view_as(classifier.weight) * inside)
    classifier.bias.fill_(float(odds.mean()))


def between_lungs(lungs: torch.Tensor, regions: tuple[int, ...]) -> torch.Tensor:
    """(D, H, W) share of lung -> ``regions`` of 1 where a region holds lung or lies between two that do, from
    right to left."""
    depth, height, width = regions
    holds = functional.adaptive_avg_pool3d(lungs[None, None].float(), (depth, height, width))[0, 0] > _SOME
    return (holds.cummax(2).values & holds.flip(2).cummax(2).values.flip(2)).float()


def log_odds(signs: torch.Tensor) -> torch.Tensor:
    """(N, S) of 0 and 1, NaN where unknown, in the order SHOWN -> (N,): log-odds of PE given them."""
    chances = [
        sign_probability(
            {name: bool(sign) for name, sign in zip(SHOWN, row, strict=True) if not math.isnan(sign)}
        )
        for row in signs.tolist()
    ]
    return torch.tensor(chances).logit()


class Regression:
    """Ridge regression on features (N, F), factorised once.

    Args:
        features: of patients.
        mean: (F,) that is subtracted from them; None: their own.

    Attributes:
        mean: (F,) what is subtracted.
    """

    def __init__(self, features: torch.Tensor, mean: torch.Tensor | None = None) -> None:
        self.mean = features.mean(0) if mean is None else mean
        self._centred = features - self.mean
        if len(features) < features.shape[1]:
            _, singular, rows = torch.linalg.svd(self._centred.double(), full_matrices=False)
            values, vectors = singular.square(), rows.T
        else:
            values, vectors = torch.linalg.eigh((self._centred.T @ self._centred).double())
        self._values, self._vectors = values.clamp(min=0), vectors.float()

    def of(self, features: torch.Tensor) -> "Regression":
        """That on the features of some of the patients, about the mean of all; itself for all of them."""
        everybody = len(features) == len(self._centred)
        return self if everybody else Regression(features.float(), self.mean)

    def weights(self, targets: torch.Tensor, ridge: float) -> torch.Tensor:
        """(F, outputs) for centred targets (N, outputs); the penalty is a share of the sum of all features'
        squared deviations."""
        strength = (self._values + ridge * self._values.sum()).clamp(min=_LEAST).float()[:, None]
        return self._vectors @ ((self._vectors.T @ (self._centred.T @ targets)) / strength)

    def reduced(self, targets: torch.Tensor, ridge: float, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights (K, F) and components (K, outputs), K at most ``rank``, whose products are nearest to all
        that the features tell."""
        weights = self.weights(targets, ridge)
        components = _components(self._centred @ weights, rank)
        return components @ weights.T, components


def _components(values: torch.Tensor, count: int) -> torch.Tensor:
    """(K, F) principal components of (N, F), K at most ``count``."""
    with torch.random.fork_rng(devices=[]):  # the factorisation draws its start
        torch.manual_seed(0)
        return torch.svd_lowrank(values, min(count, *values.shape), niter=3)[2].T


def _filled(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(K, F) as ``like`` (N, ...), N at least K: what is missing is 0."""
    return functional.pad(values, (0, 0, 0, len(like) - len(values))).view_as(like).to(like.dtype)
