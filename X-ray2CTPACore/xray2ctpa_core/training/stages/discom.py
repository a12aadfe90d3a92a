"""Stage: DisCoM-KD, which disentangles two modalities without a teacher (arXiv 2408.07080; CMKD, Table 1)."""

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.training.losses.denoising import embolism_loss

#: Length of each of a modality's three parts.
PART = 256


class _Reverse(torch.autograd.Function):
    """The identity with a reversed gradient (Ganin and Lempitsky, ICML 2015)."""

    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, *gradients: torch.Tensor) -> torch.Tensor:  # noqa: ARG004
        return -gradients[0]


class Modality(nn.Module):
    """One modality: an encoder of the features shared by both, and one of its specific features, which are
    split into informative and irrelevant ones.

    Args:
        invariant, specific: encoders, input -> (B, width).
        width: of their embeddings.
    """

    def __init__(self, invariant: nn.Module, specific: nn.Module, width: int) -> None:
        super().__init__()
        self.invariant, self.specific = invariant, specific
        self.to_invariant = nn.Sequential(nn.Linear(width, PART), nn.BatchNorm1d(PART), nn.ReLU())
        self.to_specific = nn.Linear(width, 2 * PART)
        self.head = nn.Linear(2 * PART, 1)

    def forward(self, given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logit (B, 1) of PE; z_inv (shared), z_inf (informative) and z_irr (irrelevant), (B, PART) each."""
        shared = self.to_invariant(self.invariant(given))
        informative, irrelevant = self.to_specific(self.specific(given)).chunk(2, 1)
        return self.head(torch.cat([shared, informative], 1)), shared, informative, irrelevant


class DisentangledPair(nn.Module):
    """Both modalities and the classifiers of the modality; called like a radiograph classifier."""

    def __init__(self, radiograph: Modality, slices: Modality) -> None:
        super().__init__()
        self.radiograph, self.slices = radiograph, slices
        self.adversary = nn.Linear(PART, 1)
        self.modality_of_informative, self.modality_of_irrelevant = nn.Linear(PART, 1), nn.Linear(PART, 1)
        self.shared_task = nn.Linear(PART, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE."""
        return self.radiograph(image)[0]

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 2 * PART): input of the radiograph's head."""
        _, shared, informative, _ = self.radiograph(image)
        return torch.cat([shared, informative], 1)


class DisentanglingStage:
    """The unweighted sum of five losses: PE from both modalities, an adversary of the modality on z_inv,
    classification of the modality from z_inf and z_irr, PE from z_inv and z_inf by a common head, and
    orthogonality.

    Batches hold "image", "slices" and "label"; patients are shuffled independently in each modality, as in
    the paper. Two parts differ from its release: the modality's labels are 0 and 1 (the release's targets do
    not train its modality classifiers), and orthogonality is the mean squared cosine (the release's signed
    cosine is least for opposed vectors).

    Args:
        pair: the module.
        pos_weight: weight of patients with PE.
    """

    def __init__(self, pair: DisentangledPair, pos_weight: float) -> None:
        self.module: nn.Module = pair
        self._pair, self._pos_weight = pair, pos_weight

    def loss(
        self, module: nn.Module, batch: dict[str, torch.Tensor], generator: torch.Generator
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        pair = module if isinstance(module, DisentangledPair) else self._pair
        order = torch.randperm(len(batch["label"]), generator=generator, device=batch["label"].device)
        given = (
            (pair.radiograph, batch["image"], batch["label"], 0.0),
            (pair.slices, batch["slices"][order], batch["label"][order], 1.0),
        )
        terms = {name: batch["label"].new_zeros(()) for name in ("task", "modality", "shared", "orthogonal")}
        for modality, values, labels, number in given:
            logits, shared, informative, irrelevant = modality(values)
            terms["task"] = terms["task"] + embolism_loss(logits, labels, self._pos_weight).mean()
            told = (
                pair.adversary(_Reverse.apply(shared)),
                pair.modality_of_informative(informative),
                pair.modality_of_irrelevant(irrelevant),
            )
            truth = torch.full_like(logits, number)
            for guess in told:
                terms["modality"] = terms["modality"] + functional.binary_cross_entropy_with_logits(
                    guess, truth
                )
            for part in (shared, informative):
                task = embolism_loss(pair.shared_task(part), labels, self._pos_weight).mean()
                terms["shared"] = terms["shared"] + task
            for other in (irrelevant, shared):
                cosine = functional.cosine_similarity(informative, other, dim=1)
                terms["orthogonal"] = terms["orthogonal"] + cosine.square().mean()
        return sum(terms.values()), {name: term.detach() for name, term in terms.items()}  # type: ignore[return-value]
