"""What the small networks' trainings share: fixed seeds, a cosine, and a state that resumes exactly."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

SAVE_EVERY = 200  # steps


def arguments(description: str | None, steps: tuple[int, ...]) -> argparse.Namespace:
    """--state, --models, --steps. Several numbers of steps are as many cosines, one after the other."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--state", type=Path, required=True, help="folder for the state that resumes")
    parser.add_argument("--models", type=Path, required=True, help="folder that gets the released layout")
    parser.add_argument("--steps", type=int, nargs="+", default=steps, help="default: %(default)s")
    return parser.parse_args()


def train(
    name: str,
    network: nn.Module,
    loss_of: Callable[[int], dict[str, Tensor]],
    args: argparse.Namespace,
    rate: float,
) -> None:
    """Runs `loss_of(step)` (named losses, summed; data seeded by the step) to the end, from wherever it stopped.

    Writes args.state/NAME.pt every SAVE_EVERY steps and a line of NAME.jsonl for each 50.
    """
    args.state.mkdir(parents=True, exist_ok=True)
    file, log = args.state / f"{name}.pt", args.state / f"{name}.jsonl"
    optimiser = torch.optim.AdamW(network.parameters(), lr=rate, betas=(0.9, 0.97), weight_decay=0.02)
    first, spent, total = 0, 0.0, sum(args.steps)
    if file.is_file():
        state: dict[str, Any] = torch.load(file, weights_only=True)
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        first, spent = state["step"], state["seconds"]
    start = time.process_time()
    network.train()
    for step in tqdm(range(first, total), initial=first, total=total, desc=name, mininterval=5):
        for group in optimiser.param_groups:
            group["lr"] = rate * share_of_rate(step, args.steps)
        losses = loss_of(step)
        optimiser.zero_grad()
        loss = torch.stack(list(losses.values())).sum()
        if not loss.isfinite():
            raise SystemExit(f"{name}: the loss is not finite at step {step}: lower the rate")
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        seconds = spent + time.process_time() - start
        if step % 50 == 49:
            line = {"step": step + 1, "core_seconds": round(seconds, 1)}
            line |= {key: round(value.item(), 4) for key, value in losses.items()}
            with log.open("a") as stream:
                stream.write(json.dumps(line) + "\n")
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == total:
            _save(file, network, optimiser, step + 1, seconds)
    network.eval()


def share_of_rate(step: int, cycles: Sequence[int]) -> float:
    """Each cosine warms up over its first 8 %; those after the first reach 0.6 of the rate."""
    for number, steps in enumerate(cycles):
        if step < steps:
            peak, warm = (0.6 if number else 1.0), 0.08 * steps
            if step < warm:
                return peak * (0.04 + 0.96 * step / warm)
            return peak * (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
        step -= steps
    return 0.0


def _save(file: Path, network: nn.Module, optimiser: Any, step: int, seconds: float) -> None:
    state = {
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
