"""Stage: a radiograph classifier trained on labels and on a frozen CTPA teacher (CMKD, Table 1)."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from xray2ctpa_core.errors import ConfigError
from xray2ctpa_core.models.classifiers.embedding_classifier import EmbeddingClassifier
from xray2ctpa_core.models.classifiers.slice_transformer import SliceTransformer
from xray2ctpa_core.training.losses.denoising import embolism_loss
from xray2ctpa_core.training.losses.distillation import (
    FallingWeights,
    Prototypes,
    block_losses,
    chopra_loss,
    hinton_loss,
    margin_loss,
    mean_divergence,
)
from xray2ctpa_core.training.settings.cmkd import DistillationConfig

METHODS = ("hinton", "protokd", "aftkd", "chopra", "margin")
#: Number of places to which the features of each stage are pooled.
_PLACES = 8
#: Layers whose outputs AFT-KD compares, by the encoder's name; (B, C, H, W) or tokens (B, N, C).
STAGES_OF = {
    "small": tuple(f"trunk.features.denseblock{n}" for n in (1, 2, 3, 4)),
    "radimagenet-resnet50": tuple(f"trunk.layer{n}" for n in (1, 2, 3, 4)),
    "biomedclip": tuple(f"trunk.trunk.blocks.{n}" for n in (2, 5, 8, 11)),
    "dinov2": tuple(f"trunk.network.encoder.layer.{n}" for n in (2, 5, 8, 11)),
}


class TaughtStudent(nn.Module):
    """A student with the further parameters that its training needs; called like the student."""

    def __init__(self, student: EmbeddingClassifier) -> None:
        super().__init__()
        self.student = student
        self.prototypes: Prototypes | None = None
        self.projections: nn.ModuleList | None = None
        self.weights: FallingWeights | None = None

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 1, P, P) -> (B, 1) logits of PE."""
        return self.student(image)


class DistillationStage:
    """Binary cross-entropy and the terms of a distillation method.

    Batches hold "image", "slices" and "label".

    Args:
        student: the module.
        teacher: frozen here.
        method: of METHODS.
        config: its settings.
        pos_weight: weight of patients with PE.

    Raises:
        ConfigError: an unknown method, or AFT-KD for an encoder whose stages are not known.
    """

    def __init__(
        self,
        student: EmbeddingClassifier,
        teacher: SliceTransformer,
        method: str,
        config: DistillationConfig,
        pos_weight: float,
    ) -> None:
        if method not in METHODS:
            raise ConfigError(f"Expected a method of {', '.join(METHODS)}, got {method!r}.")
        self._teacher = teacher.eval().requires_grad_(False)
        self._method, self._config, self._pos_weight = method, config, pos_weight
        self._taught = TaughtStudent(student)
        self.module: nn.Module = self._taught
        if method == "protokd":
            dims = student.config["embedding_dim"], teacher.config["embedding_dim"]
            self._taught.prototypes = Prototypes(dims)
        if method == "aftkd":
            self._watch(student, teacher)

    def loss(
        self,
        module: nn.Module,
        batch: dict[str, torch.Tensor],
        generator: torch.Generator,  # noqa: ARG002 - part of Stage
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """See Stage."""
        embeddings: list[torch.Tensor] = []
        student = self._taught.student
        hook = student.to_embedding.register_forward_hook(lambda *call: embeddings.append(call[2]))
        try:
            logits = module(batch["image"])
        finally:
            hook.remove()
        with torch.no_grad():
            self._teacher.to(logits.device)
            target = self._teacher.embed(batch["slices"])
            teacher_logits = self._teacher.head(target)
        task = embolism_loss(logits, batch["label"], self._pos_weight).mean()
        term = self._term(logits, teacher_logits, embeddings[-1], target, batch)
        share = self._config.task_share if self._method == "hinton" else 1.0
        return share * task + term, {"task": task.detach(), self._method: term.detach()}

    def _term(
        self,
        logits: torch.Tensor,
        teacher_logits: torch.Tensor,
        embedding: torch.Tensor,
        target: torch.Tensor,
        batch: dict[str, torch.Tensor],
    ) -> torch.Tensor:
        config, taught = self._config, self._taught
        if self._method == "hinton":
            return (1 - config.task_share) * hinton_loss(logits, teacher_logits, config.temperature)
        if self._method == "chopra":
            return config.contrastive_weight * chopra_loss(embedding, target)
        if self._method == "margin":
            return config.contrastive_weight * margin_loss(embedding, target, config.margin)
        if taught.prototypes is not None:
            taught.prototypes.update(embedding, target, batch["label"])
            divergence = mean_divergence(logits, teacher_logits, config.proto_temperature)
            proto = taught.prototypes.loss(embedding, target)
            return config.proto_divergence * divergence + config.proto_weight * proto
        assert taught.projections is not None
        assert taught.weights is not None
        ours = [
            projection(_sequence(seen))
            for projection, seen in zip(taught.projections, self._seen, strict=True)
        ]
        self._seen.clear()
        with torch.no_grad():
            theirs = [_sequence(block[:, 1:]) for block in self._teacher.block_outputs(batch["slices"])]
        chosen = [theirs[len(theirs) * n // len(ours)] for n in range(len(ours))]
        return config.block_weight * taught.weights(block_losses(ours, chosen)) / len(ours)

    def _watch(self, student: EmbeddingClassifier, teacher: SliceTransformer) -> None:
        """Records the outputs of the encoder's stages and adds a trained projection of each to the teacher's
        width."""
        encoder = student.encoder
        names = STAGES_OF.get(encoder.config["name"])
        layers = dict(encoder.named_modules())
        if names is None or not any(name in layers for name in names):
            raise ConfigError(
                f"Expected for AFT-KD an encoder out of {', '.join(STAGES_OF)}, got {encoder.config['name']}."
            )
        self._seen: list[torch.Tensor] = []

        def keep(_layer: nn.Module, _given: Any, output: Any) -> None:
            if torch.is_grad_enabled():
                self._seen.append(output[0] if isinstance(output, tuple) else output)

        for name in names:
            if name in layers:
                layers[name].register_forward_hook(keep)
        side = encoder.config["pixels"] or 64
        encoder(torch.zeros(2, 1, side, side))
        widths = [_sequence(output).shape[1] for output in self._seen]
        self._seen.clear()
        width = teacher.config["width"]
        self._taught.projections = nn.ModuleList(nn.Conv1d(channels, width, 1) for channels in widths)
        self._taught.weights = FallingWeights(len(widths))


def _sequence(features: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) or tokens (B, N, C) -> (B, C, _PLACES). Columns are averaged, because rows of the
    radiograph correspond to axial slices; tokens stay in order."""
    rows = features.mean(3) if features.ndim == 4 else features.transpose(1, 2)
    return functional.adaptive_avg_pool1d(rows.float(), _PLACES)


def student_of(module: nn.Module) -> Any:
    """The student in a trained module, without the parameters of its training."""
    return module.student if isinstance(module, TaughtStudent) else module
