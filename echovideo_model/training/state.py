"""A run on disk: everything that the next step depends on, in one file that is written atomically.

Killed at any moment, a run has the state of its last save, whole; and since the order of the examples and all random
numbers follow from (seed, step), going on from there leads to the same weights as never having stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InvalidRequest
from ..files import write_atomically
from ..weights.reading import open_tensors
from ..weights.writing import write_file
from .average import Average
from .recipe import Recipe

STATE, STATS = "state.safetensors", "stats.jsonl"
MOMENTS = ("exp_avg", "exp_avg_sq")  # AdamW's; Muon has the first alone
CHANGEABLE = ("output", "steps", "optimizer", "every", "samples", "batch.micro", "batch.checkpointing")
"""What may differ when a run goes on: how long, how fast and how it is shown, but not what is trained on what."""
FIXED = ("optimizer.muon",)
"""What may not, although it is within CHANGEABLE: the saved moments are one optimiser's."""


class State:
    """The trained parameters, the optimiser's moments and the average of one run, and where they are kept."""

    def __init__(
        self,
        recipe: Recipe,
        parameters: Mapping[str, nn.Parameter],
        optimizer: torch.optim.Optimizer,
        average: Average,
    ) -> None:
        self.recipe, self.parameters, self.optimizer, self.average = recipe, parameters, optimizer, average
        self.path = recipe.output / STATE
        by_adam = {one for group in optimizer.param_groups for one in group["params"]}
        self.moments = {name: MOMENTS if one in by_adam else MOMENTS[:1] for name, one in parameters.items()}

    def save(self, step: int) -> None:
        """Writes what there is after `step` steps. Raises InvalidRequest, the older state kept, if it cannot."""
        tensors = self._tensors()

        def read(names: Iterable[str]) -> Iterator[Tensor]:
            return (tensors[name].detach().cpu() for name in names)

        planned = {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        metadata = {"step": str(step), "recipe": json.dumps(self.recipe.to_json())}
        write_file(self.path, planned, read, metadata)

    def load(self) -> int:
        """Restores the last save and returns its number of steps, 0 if there is none.

        Raises InvalidRequest if the recipe has changed in what is not CHANGEABLE, WrongModelFile for a damaged file.
        """
        if not self.path.is_file():
            return 0
        opened = open_tensors(self.path)
        step = int(opened.metadata["step"])
        self._require_same_recipe(json.loads(opened.metadata["recipe"]))
        for name, parameter in self.parameters.items():
            moments = {moment: torch.zeros_like(parameter) for moment in self.moments[name]}
            self.optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
        with torch.no_grad():
            tensors = self._tensors()
            for name, saved in opened.tensors(tensors):
                tensors[name].copy_(saved)
        return step

    def _tensors(self) -> dict[str, Tensor]:
        """Every tensor under its name in the file."""
        tensors: dict[str, Tensor] = {f"weights.{name}": value for name, value in self.parameters.items()}
        tensors |= {f"average.{name}": value for name, value in self.average.values.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            tensors |= {f"{moment}.{name}": moments[moment] for moment in self.moments[name]}
        return tensors

    def _require_same_recipe(self, saved: dict[str, Any]) -> None:
        saved = Recipe.from_json(saved).to_json()  # a save that is older than a setting has its default
        before, now = dict(_flatten(saved)), dict(_flatten(self.recipe.to_json()))
        for name in before | now:
            free = any(name == one or name.startswith(f"{one}.") for one in CHANGEABLE) and name not in FIXED
            if not free and before.get(name) != now.get(name):
                raise InvalidRequest(
                    f"the run in {self.recipe.output} was started with {name} = {before.get(name)}, not "
                    f"{now.get(name)}: restore it, or choose another output"
                )


def append_stats(folder: Path, stats: Mapping[str, Any]) -> None:
    """One more line of STATS. Raises InvalidRequest if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / STATS, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(stats) + "\n")
    except OSError as error:
        raise InvalidRequest(
            f'cannot write "{folder / STATS}": {error.strerror}; free some space, then train the recipe again'
        ) from error


def trim_stats(folder: Path, step: int) -> None:
    """Takes away the lines after `step`: steps that were taken, lost, and will be taken again."""
    path = folder / STATS
    if path.is_file():
        kept = [line for line in path.read_text("utf-8").splitlines() if _read_step(line) <= step]
        with write_atomically(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in kept), "utf-8")


def _read_step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except (ValueError, LookupError, TypeError):  # the process was killed in the middle of the line
        return float("inf")


def _flatten(tree: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from _flatten(value, f"{name}.{key}".lstrip("."))
    else:
        yield name, tree
