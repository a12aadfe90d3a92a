"""What a student learns from a teacher: the terms of Hinton, ProtoKD, AFT-KD and of both contrastive losses.

Logits are (B, 1) of PE, embeddings (B, E), labels (B,) of 0 and 1. Nothing sends a gradient to the teacher.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

#: Of 2.77 = ln 16 in Chopra et al., CVPR 2005, eq. 8.
_CHOPRA_RATE = 2.77
_TINY = 1e-8


def hinton_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 times the cross-entropy of softened probabilities (Hinton et al., 2015): for one logit,
    BCE(z_s / T, sigmoid(z_t / T)). Its gradient is that of the divergence."""
    target = (teacher.detach().float() / temperature).sigmoid()
    entropy = functional.binary_cross_entropy_with_logits(student.float() / temperature, target)
    return temperature**2 * entropy


def mean_divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """ProtoKD's: p_t (log p_t - log p_s) of softened probabilities, the mean over both classes and the batch,
    without T^2."""
    scaled = [logit.float() / temperature for logit in (student, teacher.detach())]
    ours, theirs = (torch.cat([functional.logsigmoid(-z), functional.logsigmoid(z)], 1) for z in scaled)
    return (theirs.exp() * (theirs - ours)).mean()


class Prototypes(nn.Module):
    """Running mean embedding of each class, of student and teacher, over the training set.

    The paper takes a class's mean within one image, of voxels; of a patient's one vector there is none, and
    of a batch of two neither.

    Args:
        dims: length of the student's and of the teacher's embedding.
        newest: share of a batch in the running mean.
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
        """Takes a batch in."""
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
    """(B, C, L) of a stage, L places -> (B, C L + L + C): the features, where they are strong (mean over
    channels of F^2, of norm 1) and which channels are (mean over places).

    Our reading of AFT-KD (Sci Rep 13:18369), of which we know the abstract alone: "attention and feature
    blocks" that hold where a network looks and what it computes.
    """
    features = features.float()
    where = functional.normalize(features.square().mean(1), dim=1, eps=_TINY)
    return torch.cat([features.flatten(1), where, features.mean(2)], 1)


def block_losses(student: Sequence[torch.Tensor], teacher: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Mean squared error of the attention and feature blocks, stage by stage; stages (B, C, L) alike."""
    return [
        functional.mse_loss(attention_feature_block(ours), attention_feature_block(theirs.detach()))
        for ours, theirs in zip(student, teacher, strict=True)
    ]


def vector_block_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """What remains of AFT-KD for two vectors (CMKD's ablation): squared errors of the vectors and of their
    squares, of norm 1."""
    teacher = teacher.detach().float()
    ours, theirs = (functional.normalize(x.float().square(), dim=1, eps=_TINY) for x in (student, teacher))
    return functional.mse_loss(student.float(), teacher) + functional.mse_loss(ours, theirs)


class FallingWeights(nn.Module):
    """Weights by how fast each loss falls: K softmax(L_k(t-1) / L_k(t-2)) (dynamic weight averaging, Liu et
    al., CVPR 2019, eq. 7): our reading of AFT-KD's adaptive weights."""

    last: torch.Tensor

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.register_buffer("last", torch.full((2, losses), torch.nan))

    def forward(self, losses: Sequence[torch.Tensor]) -> torch.Tensor:
        """The weighted sum; in training the losses are remembered for the next call."""
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

    A patient's own pair is genuine (Y = 0), all others of the batch are impostors (Y = 1): CMKD does not say
    what a pair is. Genuine and impostor pairs count the same, whatever their number.
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
