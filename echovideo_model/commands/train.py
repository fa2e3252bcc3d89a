"""`echovideo train`: takes the steps of a recipe, from where the run stopped."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ..files import expand_user
from . import say

if TYPE_CHECKING:
    from ..training.loop import Stats

COLUMNS = ("step", "loss", "held out", "gradient", "rate", "samples/s")


def register(subparsers: Any) -> None:
    """Adds `train` to the parser of `echovideo`."""
    parser = subparsers.add_parser(
        "train",
        help="train the model, or a LoRA for it, from a recipe",
        description="Take the steps of RECIPE.toml. To resume a run that was stopped, repeat the command. For N "
        "devices: torchrun --nproc-per-node N -m echovideo_model train RECIPE.toml",
    )
    parser.add_argument("recipe", type=expand_user, metavar="RECIPE.toml", help="see docs/training.md")
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first one available)")
    parser.add_argument(
        "--memory",
        action="store_true",
        help="do not train: compute from the sizes how much memory a step needs",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Trains, and shows the statistics as a table that grows."""
    from ..devices import find_rank_device
    from ..parallel.ranks import join
    from ..training.loop import train
    from ..training.recipe import read_recipe

    recipe = read_recipe(args.recipe)
    if args.memory:
        return _say_memory(recipe)
    device = find_rank_device(args.device)
    with join(device) as ranks:
        table = _Table(recipe.steps)
        model = train(recipe, device, ranks, table.add)
        if ranks.first:
            say(str(model))
    return 0


class _Table:
    """One line on stdout for each of stats.jsonl, below a line of names."""

    def __init__(self, steps: int) -> None:
        self.width = max(len(f"{steps}"), len(COLUMNS[0]))
        self.begun = False

    def add(self, stats: Stats) -> None:
        if not self.begun:
            say(self._line(*COLUMNS))
            self.begun = True
        held_out = "" if stats.held_out is None else f"{stats.held_out:.4f}"
        say(
            self._line(
                f"{stats.step}",
                f"{stats.loss:.4f}",
                held_out,
                f"{stats.gradient:.3f}",
                f"{stats.rate:.2e}",
                f"{stats.samples_per_second:.2f}",
            )
        )

    def _line(self, step: str, *others: str) -> str:
        return "  ".join([step.rjust(self.width), *(other.rjust(9) for other in others)])


def _say_memory(recipe: Any) -> int:
    from ..training.memory import estimate_memory

    estimate = estimate_memory(recipe)
    say("Computed from sizes, not measured. The device and its kernels need one or two GB more:")
    for what, size in estimate.items():
        say(f"  {what:<36}{size / 1e9:7.2f} GB")
    say(f"  {'total':<36}{sum(estimate.values()) / 1e9:7.2f} GB")
    return 0
