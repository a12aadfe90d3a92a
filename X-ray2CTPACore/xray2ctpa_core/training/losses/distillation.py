"""Losses of a student against a teacher: Hinton, ProtoKD, AFT-KD and two contrastive losses.

Logits are (B, 1) of PE, embeddings (B, E), labels (B,) of 0 and 1. Nothing sends a gradient to the teacher.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

#: The constant 2.77 (ln 16) of Chopra et al., CVPR 2005, eq. 8.
_CHOPRA_RATE = 2.77
_TINY = 1e-8


def hinton_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """(), T^2 times the cross-entropy of softened probabilities (Hinton et al., 2015): for one logit,
    BCE(z_s / T, sigmoid(z_t / T)). Its gradient equals that of the Kullback-Leibler divergence."""
    target = (teacher.detach().float() / temperature).sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(student.float() / temperature, target)
    return temperature**2 * entropy


def mean_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """(), ProtoKD's divergence: p_t (log p_t - log p_s) of softened probabilities, averaged over both classes
    and the batch, without T^2."""
    scaled = [logit.float() / temperature for logit in (student, teacher.detach())]
    ours, theirs = (torch.cat([functional.logsigmoid(-z), functional.logsigmoid(z)], 1) for z in scaled)
    return (theirs.exp() * (theirs - ours)).mean()


class Prototypes(nn.Module):
    """Running mean embedding of each class over the training set, for student and teacher.

    The paper averages the voxels of a class within one image. Here a patient has a single vector, and a batch
    may hold too few patients of a class, so the mean runs over the training set.

    Args:
        dims: lengths of the student's and the teacher's embedding.
        newest: share of the newest batch in the running mean.
    """

    student: torch.Tensor
    teacher: torch.Tensor
    seen: torch.Tensor

    def __init__(self, dims: tuple[int, int], newest: float = 0.1) -> None:
        super().__init__()
        self._newest = newest
        self.register_buffer("student", torch.zeros(2, dims[0]))
        self.register_buffer("teacher", torch.zeros(2, dims[1]))
        self.register_buffer("seen", torch.zeros(2))

    @torch.no_grad()
    def update(self, student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor) -> None:
        """Updates the running means by a batch: embeddings (B, E) and labels (B,)."""
        for label in (0, 1):
            rows = labels.round().long() == label
            if not rows.any():
                continue
            share = self._newest if self.seen[label] else 1.0
            self.student[label].lerp_(student[rows].float().mean(0), share)
            self.teacher[label].lerp_(teacher[rows].float().mean(0), share)
            self.seen[label] = 1

    def loss(self, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Mean over classes and patients of (cos(f_s, c_s,k) - cos(f_t, c_t,k))^2, k the classes seen so far
        (Wang et al., ICASSP 2023, eq. 4); each model has its own prototypes."""
        seen = self.seen.bool()
        if not seen.any():
            return student.sum() * 0
        ours = functional.cosine_similarity(student.float()[:, None], self.student[seen], dim=2)
        theirs = functional.cosine_similarity(teacher.detach().float()[:, None], self.teacher[seen], dim=2)
        return (ours - theirs).square().mean()


def attention_feature_block(features: torch.Tensor) -> torch.Tensor:
    """(B, C, L), features at L places -> (B, C L + L + C): the features F, the spatial attention (mean of F^2
    over channels, scaled to norm 1) and the channel attention (mean of F over places).

    Our reading of the "attention and feature blocks" of AFT-KD (Sci Rep 13:18369), of which only the abstract
    was available to us.
    """
    features = features.float()
    where = functional.normalize(features.square().mean(1), dim=1, eps=_TINY)
    return torch.cat([features.flatten(1), where, features.mean(2)], 1)


def block_losses(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Mean squared error () of the attention and feature block of each stage; features (B, C, L), of equal
    shape in student and teacher."""
    return [
        functional.mse_loss(attention_feature_block(ours), attention_feature_block(theirs.detach()))
        for ours, theirs in zip(student, teacher, strict=True)
    ]


def vector_block_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """(), AFT-KD for two vectors (CMKD's ablation): mean squared error of the vectors plus that of their
    squares, scaled to norm 1."""
    teacher = teacher.detach().float()
    ours, theirs = (functional.normalize(x.float().square(), dim=1, eps=_TINY) for x in (student, teacher))
    return functional.mse_loss(student.float(), teacher) + functional.mse_loss(ours, theirs)


class FallingWeights(nn.Module):
    """Weights of K losses from their relative decrease, K softmax(L_k(t-1) / L_k(t-2)) (dynamic weight
    averaging, Liu et al., CVPR 2019, eq. 7): our reading of AFT-KD's adaptive weights."""

    last: torch.Tensor

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.register_buffer("last", torch.full((2, losses), torch.nan))

    def forward(self, losses: Sequence[torch.Tensor]) -> torch.Tensor:
        """The weighted sum (); in training mode the losses are stored for the next call."""
        values = torch.stack(list(losses))
        weights = torch.ones_like(values)
        if self.last.isfinite().all():
            ratios = self.last[1] / self.last[0].clamp_min(_TINY)
            weights = len(values) * ratios.softmax(0)
        if self.training:
            self.last.copy_(torch.stack([self.last[1], values.detach()]))
        return (weights * values).sum()


def chopra_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Chopra, Hadsell and LeCun, CVPR 2005, eq. 8: (1 - Y) 2/Q E^2 + Y 2 Q exp(-2.77 E / Q), E the L1
    distance of vectors of norm 1, Q its largest possible value, 2 sqrt(E).

    Embeddings of the same patient form a genuine pair (Y = 0), those of two patients of the batch an impostor
    pair (Y = 1); CMKD does not define pairs. Both kinds have the same total weight, whatever their number.
    """
    ours, theirs = _on_the_sphere(student, teacher)
    bound = 2 * ours.shape[1] ** 0.5
    distances = torch.cdist(ours, theirs, p=1)
    genuine = 2 / bound * distances.diagonal().square()
    impostors = 2 * bound * torch.exp(-_CHOPRA_RATE * _others(distances) / bound)
    return genuine.mean() + (impostors.mean() if len(impostors) else 0)


def margin_loss(student: torch.Tensor, teacher: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Hadsell, Chopra and LeCun, CVPR 2006, eq. 4: (1 - Y) D^2 / 2 + Y max(0, m - D)^2 / 2, D the Euclidean
    distance of vectors of norm 1; pairs as in `chopra_loss`."""
    ours, theirs = _on_the_sphere(student, teacher)
    squares = (ours[:, None] - theirs).square().sum(2)
    impostors = (margin - _others(squares).clamp_min(_TINY).sqrt()).clamp_min(0).square() / 2
    return squares.diagonal().mean() / 2 + (impostors.mean() if len(impostors) else 0)


def _on_the_sphere(student: torch.Tensor, teacher: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return functional.normalize(student.float(), dim=1), functional.normalize(teacher.detach().float(), dim=1)


def _others(pairs: torch.Tensor) -> torch.Tensor:
    """(B, B) -> (B (B - 1),) without the diagonal."""
    return pairs[~torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)]
