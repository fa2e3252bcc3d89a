"""Examples of random numbers and a recipe for a network so small that a step takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from echovideo_model.training.examples import write_empty, write_example
from echovideo_model.training.recipe import Recipe, read_recipe

TOKENS, WIDTH = 6, 16  # of the text
RECIPE = """
examples = "examples"
output = "run"
steps = 6
average = 0.9
face_latent = 0.5

[model.sizes]
blocks = 2
heads = 1
head_width = 64
time_width = 16
in_channels = 32
out_channels = 16
patch = 2
[model.sizes.iitf]
text_width = 16
text_tokens = 6
face_width = 768
face_tokens = 196
id_width = 512
id_tokens = 16
width = 64
heads = 1
layers = 1

[optimizer]
rate = 1e-3
warmup = 2

[batch]
size = 4
micro = 2

[every]
stats = 1
save = 2
"""


def write_examples(folder: Path, count: int = 6) -> Path:
    """`count` files of two takes and two identities, of two latent shapes; alike, so that something is learnt."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    for number in range(count):
        shape = (1, 4, 4) if number % 3 else (2, 4, 6)
        tensors = {
            "mean": draw(2, 16, *shape) / 4 + 2,
            "deviation": draw(2, 16, *shape).abs() / 10,
            "text": draw(2, TOKENS, WIDTH),
            "face_mean": draw(2, 16, 1, *shape[1:]),
            "face_deviation": draw(2, 16, 1, *shape[1:]).abs() / 10,
            "face_tokens": draw(2, 196, 768),
            "id_embedding": draw(2, 512),
        }
        write_example(folder / f"{number}.safetensors", tensors, [f"take {number}", f"another of {number}"])
    write_empty(folder, draw(TOKENS, WIDTH), draw(196, 768))
    return folder


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_examples(tmp_path_factory.mktemp("training") / "examples")


@pytest.fixture
def recipe_of(tmp_path: Path, examples: Path) -> Callable[..., Recipe]:
    """The recipe above, with texts in it replaced by others and more added, as a file of its own and read."""

    def make(*changes: tuple[str, str], more: str = "") -> Recipe:
        text = RECIPE.replace('"examples"', f'"{examples}"')
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "recipe.toml"
        path.write_text(text + more, encoding="utf-8")
        return read_recipe(path)

    return make
