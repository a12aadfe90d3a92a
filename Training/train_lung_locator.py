"""Trains the lung locator and input gate on simulated films, drawn on the fly.

One command, about 12 minutes on 2 CPU cores:
    python Training/train_lung_locator.py --out runs/lung-locator
"""

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from tqdm import tqdm

from xray2ctpa_core import config as configuration
from xray2ctpa_core.models.framing.lung_locator import LungLocator
from xray2ctpa_core.simulation.locator_radiographs import FRONTAL, UNDECIDED, LocatorFilms
from xray2ctpa_core.simulation.radiograph_layers import frontal_and_other_views
from xray2ctpa_core.simulation.template import load_template


@dataclass(frozen=True)
class LungLocatorTraining:
    """Configuration of this script.

    Attributes:
        steps, batch: optimiser steps and films a step.
        learning_rate: highest; rises over ``warmup`` steps, then falls as a cosine to zero.
        weight_decay: of AdamW.
        class_weight: weight of the class loss beside the mask loss.
        averaging: decay of the running mean of the weights that is saved.
        frontal_views, other_views: directions from which the template is projected.
        seed: of weights, views and films.
        workers: processes that simulate films.
        save_every: steps between checkpoints.
    """

    steps: int = 900
    batch: int = 16
    learning_rate: float = 3e-3
    warmup: int = 60
    weight_decay: float = 1e-2
    class_weight: float = 0.5
    averaging: float = 0.99
    frontal_views: int = 24
    other_views: int = 8
    seed: int = 1
    workers: int = 1
    save_every: int = 200


def losses(model: LungLocator, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mask loss (cross-entropy and Dice, over films with masks) and class loss (over decided films).

    Whether a complete frontal film is mirrored counts half in the class loss.
    """
    output = model(batch["image"])
    learnt = batch["learn_masks"]
    pixelwise = functional.binary_cross_entropy_with_logits(
        output.mask_logits, batch["masks"], reduction="none"
    ).mean((1, 2, 3))
    probability = output.mask_logits.sigmoid()
    overlap = (probability * batch["masks"]).sum((2, 3))
    dice = 1 - (2 * overlap + 50) / (probability.sum((2, 3)) + batch["masks"].sum((2, 3)) + 50)
    mask_loss = ((pixelwise + dice.mean(1)) * learnt).sum() / learnt.sum().clamp(min=1)
    class_loss = functional.cross_entropy(
        output.class_logits,
        batch["label"],
        ignore_index=UNDECIDED,
        label_smoothing=0.01,
    )
    frontal = (batch["label"] == FRONTAL).float()
    mirrored = functional.binary_cross_entropy_with_logits(
        output.mirrored_logits, batch["mirrored"], reduction="none"
    )
    return mask_loss, class_loss + 0.5 * (mirrored * frontal).sum() / frontal.sum().clamp(min=1)


def learning_rate(config: LungLocatorTraining, step: int) -> float:
    """Linear warm-up, then cosine."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def films(config: LungLocatorTraining, start: int) -> DataLoader:  # type: ignore[type-arg]
    """Films of the steps from ``start`` on, in an order that does not depend on where training resumed."""
    template = load_template()
    generator = np.random.default_rng(config.seed)
    frontal, other = frontal_and_other_views(template, config.frontal_views, config.other_views, generator)
    data = LocatorFilms(template, frontal, other, config.steps * config.batch, config.seed)
    rest = Subset(data, range(start * config.batch, len(data)))
    return DataLoader(rest, config.batch, num_workers=config.workers, drop_last=True)


def save_checkpoint(path: Path, state: dict[str, object]) -> None:
    """Writes the checkpoint so that an interruption leaves the former one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def train(config: LungLocatorTraining, out: Path, resume: bool) -> None:
    """Trains, logging to ``out/log.jsonl``, and saves the locator in ``out/lung_locator``."""
    torch.manual_seed(config.seed)
    model, mean = LungLocator(), LungLocator()
    mean.load_state_dict(model.state_dict())
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    checkpoint, start = out / "checkpoint.pt", 0
    if resume:
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        mean.load_state_dict(state["mean"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    out.mkdir(parents=True, exist_ok=True)
    configuration.save(config, out / "config.json")
    bar = tqdm(films(config, start), initial=start, total=config.steps, desc="lung locator")
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, batch in enumerate(bar, start):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            mask_loss, class_loss = losses(model, batch)
            optimiser.zero_grad()
            (mask_loss + config.class_weight * class_loss).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            decay = min(config.averaging, (1 + step) / (10 + step))
            with torch.no_grad():
                for kept, new in zip(mean.parameters(), model.parameters(), strict=True):
                    kept.lerp_(new, 1 - decay)
            entry = {
                "step": step + 1,
                "mask": mask_loss.item(),
                "class": class_loss.item(),
            }
            bar.set_postfix({k: f"{v:.3f}" for k, v in entry.items() if k != "step"})
            log.write(json.dumps(entry) + "\n")
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                log.flush()
                state = {
                    "model": model.state_dict(),
                    "mean": mean.state_dict(),
                    "step": step + 1,
                }
                save_checkpoint(checkpoint, {**state, "optimiser": optimiser.state_dict()})
    mean.half().save_pretrained(out / "lung_locator")


def main() -> None:
    """Parses the arguments; ``--dry-run`` prints the configuration and takes two steps on four films."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--config", type=Path, help="JSON file with the configuration")
    parser.add_argument("--steps", type=int, help="overrides the configuration's number of steps")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    parser.add_argument("--dry-run", action="store_true", help="two tiny steps, to see that all fits")
    arguments = parser.parse_args()
    config = (
        configuration.load(LungLocatorTraining, arguments.config)
        if arguments.config
        else LungLocatorTraining()
    )
    changes = {"steps": arguments.steps} if arguments.steps else {}
    if arguments.dry_run:
        changes |= {
            "steps": 2,
            "batch": 4,
            "frontal_views": 1,
            "other_views": 1,
            "workers": 0,
        }
    config = configuration.from_mapping(LungLocatorTraining, {**vars(config), **changes})
    print(configuration.dumps(config))
    if arguments.resume and not (arguments.out / "checkpoint.pt").is_file():
        parser.error(f"--resume needs {arguments.out}/checkpoint.pt from a previous run.")
    train(config, arguments.out, arguments.resume)


if __name__ == "__main__":
    main()
