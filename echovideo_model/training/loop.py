"""Steps: a batch, its loss, an update, the average, and now and then statistics, samples and a save.

To resume a run that was stopped, train the same recipe again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidRequest
from ..files import check_writable
from ..parallel.ranks import Ranks
from .average import Average
from .examples import Examples, Order
from .muon import MuonWithAdamW
from .objective import make_batch
from .recipe import Optimizer, Recipe
from .samples import Sampler
from .state import STATE, State, append_stats, trim_stats
from .trained import Trained

LEVELS = 4  # parts of a batch whose losses are told apart, the least noisy first


@dataclass
class Stats:
    """Means over the steps since the last line of stats.jsonl."""

    step: int
    loss: float
    loss_by_noise: list[float | None]  # of the LEVELS parts of each batch, ordered by noise
    gradient: float  # norm before it is clipped
    rate: float
    samples_per_second: float
    held_out: float | None = None  # loss of the samples' examples, in the lines where samples are made


OnStats = Callable[[Stats], None]


def train(
    recipe: Recipe, device: torch.device, ranks: Ranks | None = None, on_stats: OnStats | None = None
) -> Path:
    """Takes the recipe's steps, from the last save on if there is one; returns the folder of the trained model.

    Raises InvalidRequest when a loss or gradient is not finite, with the step and the remedy: the last save is kept.
    """
    ranks = ranks or Ranks()
    examples = Examples(recipe.examples)
    order = Order(
        [examples.latent_shape(take) for take in range(len(examples))], recipe.batch.size, recipe.seed
    )
    trained = Trained(recipe, device)
    trained.require_fitting(examples)
    sampler = Sampler(recipe, trained, device) if recipe.samples and ranks.first else None
    if ranks.first:
        check_writable(recipe.output / STATE)

    optimizer = make_optimizer(trained, recipe.optimizer, ranks)
    average = Average(trained.parameters, recipe.average)
    state = State(recipe, trained.parameters, optimizer, average)
    start = state.load()
    if ranks.first:
        trim_stats(recipe.output, start)
    tally = _Tally()

    for step in range(start + 1, recipe.steps + 1):
        rate = learning_rate(recipe.optimizer, step, recipe.steps)
        losses = _accumulate_gradients(recipe, examples, order.at(step - 1), step, trained, device, ranks)
        norm = _clip(trained, recipe.optimizer.clip)
        _require_finite(losses, norm, step, recipe)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        average.update(step)
        tally.add(losses, norm)

        due = [
            every and (step % every == 0 or step == recipe.steps) for every in asdict(recipe.every).values()
        ]
        with_stats, with_save, with_samples = due
        if ranks.first and (with_stats or with_samples):
            held_out = None
            if with_samples and sampler:
                with average.in_place():
                    held_out = sampler.show(step)
            stats = tally.finish(step, rate, held_out)
            append_stats(recipe.output, asdict(stats))
            if on_stats:
                on_stats(stats)
        if ranks.first and with_save:
            with average.in_place():
                trained.write(recipe.output / "model")
            state.save(step)  # last: if the process is killed before, both are written again
        ranks.wait()
    return recipe.output / "model"


def learning_rate(optimizer: Optimizer, step: int, steps: int) -> float:
    """Of step 1..steps: up to the rate in `warmup` steps, kept until the share `flat` of the run, then a cosine down
    to the share `last` of it."""
    if step <= optimizer.warmup:
        return optimizer.rate * step / optimizer.warmup
    begin = max(optimizer.warmup, round(optimizer.flat * steps))
    way = max(0.0, (step - begin) / max(1, steps - begin))
    return optimizer.rate * (optimizer.last + (1 - optimizer.last) * (1 + math.cos(math.pi * way)) / 2)


def make_optimizer(trained: Trained, recipe: Optimizer, ranks: Ranks) -> torch.optim.AdamW:
    """AdamW over the trained parameters, or Muon for the blocks' matrices and AdamW for the others; only what has two
    dimensions or more decays."""
    matrices = trained.block_matrices() if recipe.muon else {}
    others = [value for name, value in trained.parameters.items() if name not in matrices]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": recipe.decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    if recipe.muon:
        return MuonWithAdamW(matrices.values(), groups, recipe.rate, recipe.betas, recipe.decay, ranks)
    return torch.optim.AdamW(groups, lr=recipe.rate, betas=recipe.betas)


def _accumulate_gradients(
    recipe: Recipe,
    examples: Examples,
    takes: list[int],
    step: int,
    trained: Trained,
    device: torch.device,
    ranks: Ranks,
) -> Tensor:
    """Leaves the gradient of the global batch's mean loss in the parameters; returns each sample's loss [size]."""
    size, micro = recipe.batch.size, recipe.batch.micro
    losses = torch.zeros(size, device=device)
    for parameter in trained.parameters.values():
        parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.zero_()
    places = _take_places(ranks, size)
    for first in range(0, len(places), micro):
        part = places[first : first + micro]
        batch = make_batch(
            examples,
            takes,
            part,
            step,
            size,
            recipe.seed,
            recipe.dropout,
            recipe.face_latent,
            recipe.timestep_shift,
        )
        loss = trained.loss(batch.to(device))
        (loss.sum() / size).backward()
        losses[part.start : part.stop] = loss.detach()
    ranks.add_up(
        [losses, *(parameter.grad for parameter in trained.parameters.values() if parameter.grad is not None)]
    )
    return losses


def _take_places(ranks: Ranks, batch: int) -> range:
    """This process's places in a global batch. Raises InvalidRequest if it cannot be shared out evenly."""
    if batch % ranks.size:
        raise InvalidRequest(
            f"[batch] size must be a multiple of {ranks.size} for {ranks.size} devices, not {batch}"
        )
    share = batch // ranks.size
    return range(ranks.rank * share, (ranks.rank + 1) * share)


def _clip(trained: Trained, greatest: float) -> float:
    return float(torch.nn.utils.clip_grad_norm_(trained.parameters.values(), greatest))


def _require_finite(losses: Tensor, norm: float, step: int, recipe: Recipe) -> None:
    if losses.isfinite().all() and math.isfinite(norm):
        return
    what = "gradient" if losses.isfinite().all() else "loss"
    raise InvalidRequest(
        f"the {what} of step {step} is NaN or infinite, and the last save is kept: lower [optimizer] "
        f"rate (now {recipe.optimizer.rate:g}) or lengthen warmup ({recipe.optimizer.warmup}), and "
        "train again"
    )


@dataclass
class _Tally:
    """What has been seen since the last line of statistics."""

    losses: list[Tensor] = field(
        default_factory=list
    )  # each [size], ordered by noise: samples are stratified
    norms: list[float] = field(default_factory=list)
    since: float = field(default_factory=time.perf_counter)

    def add(self, losses: Tensor, norm: float) -> None:
        self.losses.append(losses.cpu())
        self.norms.append(norm)

    def finish(self, step: int, rate: float, held_out: float | None) -> Stats:
        losses = torch.stack(self.losses).double()  # [steps, size]
        parts = losses.mean(0).tensor_split(LEVELS) if losses.shape[1] >= LEVELS else []
        now = time.perf_counter()
        stats = Stats(
            step=step,
            loss=losses.mean().item(),
            loss_by_noise=[part.mean().item() for part in parts],
            gradient=sum(self.norms) / len(self.norms),
            rate=rate,
            samples_per_second=losses.numel() / (now - self.since),
            held_out=held_out,
        )
        self.losses, self.norms, self.since = [], [], now
        return stats


__all__ = ["OnStats", "Stats", "learning_rate", "make_optimizer", "train"]
