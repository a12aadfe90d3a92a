"""The linear read-out of a bank's encoder, solved in closed form from drawn patients: ridge regression.

Twelve people teach a deep network their twelve faces; a linear read-out of gradients, strongly regularised,
carries to strangers, and it takes seconds. Gradient descent adds to it (training.stages.bank_encoder).
"""

from collections.abc import Iterable

import torch
from torch.nn import functional

from xray2ctpa_core.models.encoders.atlas import resized
from xray2ctpa_core.models.encoders.bank_encoder import BASIS_NODES, BankEncoder
from xray2ctpa_core.models.encoders.oriented_gradients import FEATURES, radiograph_features

#: Weight of the regularisation: so many times the features' mean square, a patient.
RIDGE = 3e-4
#: A linear score of 0 or 1 makes a logit of -2 or 2.
_LOGIT = 4.0


@torch.no_grad()
def fit_linear(encoder: BankEncoder, batches: Iterable[dict[str, torch.Tensor]], ridge: float = RIDGE) -> int:
    """Sets ``encoder.linear``; its mean map and its directions must be set.

    Args:
        encoder: on the device of the batches.
        batches: image, template_map, person, signs and pe of drawn patients.
        ridge: weight of the regularisation.

    Returns:
        How many patients taught it.
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
    """(B, outputs): what the read-out should give."""
    nodes = (BASIS_NODES,) * 3
    change = resized(batch["template_map"].float() - encoder.mean_map.float(), nodes).flatten(1)
    basis = encoder.basis.float().flatten(1)
    coefficients = change @ basis.T / basis.square().sum(1).clamp(min=1e-12)
    tissue = functional.one_hot(batch["person"], len(encoder.bank.intensities)).float()
    rest = torch.cat([tissue, batch["signs"], batch["pe"][:, None]], 1)
    return torch.cat([coefficients, _LOGIT * (rest - 0.5)], 1)
