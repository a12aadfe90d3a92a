"""The linear read-out of a bank's encoder, fitted by ridge regression to drawn patients in closed form.

A deep network overfits to the few people of a bank. A strongly regularised linear read-out of oriented
gradients generalises to other people and is fitted in seconds; gradient descent refines it
(training.stages.bank_encoder).
"""

from collections.abc import Iterable

import torch
from torch.nn import functional

from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BASIS_NODES, BankEncoder
from xray2ctpa_core.models.encoders.oriented_gradients import FEATURES, radiograph_features

#: Ridge penalty, as a share of the sum of all features' squared deviations.
RIDGE = 3e-4
#: Slope from a linear score to a logit: scores of 0 and 1 become logits of -2 and 2.
_LOGIT = 4.0


@torch.no_grad()
def fit_linear(encoder: BankEncoder, batches: Iterable[dict[str, torch.Tensor]], ridge: float = RIDGE) -> int:
    """Sets ``encoder.linear``; its mean map and its directions must be set.

    Args:
        encoder: on the device of the batches.
        batches: image, template_map, person, signs and pe of drawn patients.
        ridge: the penalty, as a share of the sum of all features' squared deviations.

    Returns:
        Number of patients that it was fitted to.
    """
    linear = encoder.linear
    device, outputs = encoder.mean_map.device, linear.out_features
    products = torch.zeros(FEATURES + 1, FEATURES + 1, dtype=torch.float64, device=device)
    targets = torch.zeros(FEATURES + 1, outputs, dtype=torch.float64, device=device)
    count = 0
    for batch in batches:
        features = radiograph_features(batch["image"])
        features = functional.pad(features, (0, 1), value=1.0).double()
        products += features.T @ features
        targets += features.T @ _targets(encoder, batch).double()
        count += len(features)
    mean = products[:-1, -1] / count
    centred = products[:-1, :-1] - count * torch.outer(mean, mean)
    strength = ridge * centred.diagonal().sum()
    middle = targets[-1] / count
    against = targets[:-1] - count * torch.outer(mean, middle)
    weight = torch.linalg.solve(centred + strength * torch.eye(FEATURES, device=device).double(), against)
    linear.weight.copy_(weight.T)
    linear.bias.copy_(middle - mean @ weight)
    return count


def _targets(encoder: BankEncoder, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, outputs): targets of the read-out."""
    nodes = (BASIS_NODES,) * 3
    change = resized(batch["template_map"].float() - encoder.mean_map.float(), nodes).flatten(1)
    basis = encoder.basis.float().flatten(1)
    coefficients = change @ basis.T / basis.square().sum(1).clamp(min=1e-12)
    tissue = functional.one_hot(batch["person"], len(encoder.bank.intensities)).float()
    rest = torch.cat([tissue, batch["signs"], batch["pe"][:, None]], 1)
    return torch.cat([coefficients, _LOGIT * (rest - 0.5)], 1)
