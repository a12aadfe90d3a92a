"""The terms of distillation in numbers that a person can check."""

import math

import pytest
import torch

from xray2ctpa_core.training.losses.distillation import (
    FallingWeights,
    Prototypes,
    attention_feature_block,
    block_losses,
    chopra_loss,
    hinton_loss,
    margin_loss,
    mean_divergence,
    vector_block_loss,
)

LOGITS = torch.tensor([[2.0], [-1.0]])


def test_hintons_gradient_is_the_difference_of_softened_probabilities() -> None:
    student = torch.tensor([[0.5]], requires_grad=True)
    hinton_loss(student, torch.tensor([[3.0]]), temperature=2.0).backward()
    expected = 2.0 * (torch.sigmoid(torch.tensor(0.25)) - torch.sigmoid(torch.tensor(1.5)))
    assert student.grad is not None
    assert student.grad.item() == pytest.approx(float(expected), abs=1e-6)


def test_the_mean_divergence_is_taken_over_both_classes() -> None:
    p, q = 1 / (1 + math.exp(-0.2)), 1 / (1 + math.exp(-0.1))  # logits 2 and 1 at T = 10
    expected = (p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))) / 2
    found = mean_divergence(torch.tensor([[1.0]]), torch.tensor([[2.0]]), 10.0)
    assert float(found) == pytest.approx(expected, rel=1e-4)
    assert float(mean_divergence(LOGITS, LOGITS, 10.0)) == pytest.approx(0, abs=1e-7)


def test_prototypes_compare_cosines_to_each_models_own_means() -> None:
    prototypes = Prototypes((2, 2))
    x, y = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    labels = torch.tensor([0.0, 1.0])
    prototypes.update(torch.stack([x, y]), torch.stack([x, y]), labels)
    # The student's vector equals class 0's mean (cosines 1, 0), the teacher's class 1's (cosines 0, 1).
    assert float(prototypes.loss(x[None], y[None])) == pytest.approx(1.0)
    assert float(prototypes.loss(x[None], x[None])) == pytest.approx(0.0)


def test_a_class_that_was_never_met_has_no_prototype() -> None:
    prototypes = Prototypes((2, 2))
    x = torch.tensor([[1.0, 0.0]])
    assert float(prototypes.loss(x, -x)) == 0
    prototypes.update(x, x, torch.ones(1))
    assert prototypes.seen.tolist() == [0.0, 1.0]
    assert float(prototypes.loss(x, -x)) == pytest.approx(4.0)


def test_prototypes_are_running_means() -> None:
    prototypes = Prototypes((1, 1), newest=0.25)
    for value in (4.0, 8.0):
        prototypes.update(torch.tensor([[value]]), torch.tensor([[value]]), torch.ones(1))
    assert prototypes.student[1].item() == pytest.approx(5.0)


def test_a_block_holds_features_where_and_which() -> None:
    block = attention_feature_block(torch.tensor([[[3.0, 0.0], [3.0, 4.0]]]))  # 2 channels, 2 places
    assert block.shape == (1, 4 + 2 + 2)
    assert block[0, :4].tolist() == [3.0, 0.0, 3.0, 4.0]
    assert block[0, 4:6].tolist() == pytest.approx([9 / math.hypot(9, 8), 8 / math.hypot(9, 8)])
    assert block[0, 6:].tolist() == [1.5, 3.5]


def test_equal_stages_and_equal_vectors_cost_nothing() -> None:
    stage = torch.randn(2, 3, 4)
    assert [float(loss) for loss in block_losses([stage, 2 * stage], [stage, 2 * stage])] == [0, 0]
    assert float(vector_block_loss(LOGITS, LOGITS)) == 0
    assert float(vector_block_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))) == pytest.approx(
        2
    )


def test_the_loss_that_falls_slower_weighs_more() -> None:
    weights = FallingWeights(2).train()
    for losses in ((1.0, 1.0), (0.5, 1.0)):
        weights([torch.tensor(value) for value in losses])
    found = float(weights([torch.tensor(1.0), torch.tensor(0.0)]))
    assert found == pytest.approx(2 * math.exp(0.5) / (math.exp(0.5) + math.exp(1.0)), rel=1e-5)


def test_chopras_loss_of_two_patients_by_hand() -> None:
    teacher = torch.eye(2)
    found = chopra_loss(torch.eye(2), teacher)
    bound = 2 * math.sqrt(2)
    assert float(found) == pytest.approx(2 * bound * math.exp(-2.77 * 2 / bound), rel=1e-5)
    swapped = chopra_loss(torch.eye(2).flip(0), teacher)  # own pairs at distance 2, the others' at 0
    assert float(swapped) == pytest.approx(2 / bound * 4 + 2 * bound, rel=1e-5)


def test_the_margin_loss_of_two_patients_by_hand() -> None:
    teacher = torch.eye(2)
    assert float(margin_loss(torch.eye(2), teacher)) == pytest.approx(0, abs=1e-6)
    swapped = margin_loss(torch.eye(2).flip(0), teacher)  # own pairs at sqrt 2, the others' at 0
    assert float(swapped) == pytest.approx(2 / 2 + 1 / 2, rel=1e-3)


@pytest.mark.parametrize("loss", [chopra_loss, margin_loss, vector_block_loss])
def test_no_gradient_reaches_the_teacher(loss) -> None:
    student, teacher = (torch.randn(3, 4, requires_grad=True) for _ in range(2))
    loss(student, teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None
