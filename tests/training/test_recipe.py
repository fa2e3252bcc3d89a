"""A recipe is read whole or refused by the name of what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from echovideo_model.errors import InvalidRequest
from echovideo_model.training.recipe import Recipe, read_recipe

ROOT = Path(__file__).parents[2]
Make = Callable[..., Recipe]


def test_values_are_read_paths_are_relative_to_the_recipe_and_the_rest_has_defaults(
    recipe_of: Make, tmp_path: Path
) -> None:
    recipe = recipe_of()
    assert recipe.output == tmp_path / "run"
    assert recipe.model.sizes is not None
    assert recipe.model.sizes.iitf.text_tokens == 6
    assert recipe.model.sizes.iitf.face_tokens == 196
    assert recipe.model.sizes.in_channels == 32
    assert recipe.optimizer.betas == (0.9, 0.99)
    assert recipe.lora is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("warmup = 2", "warm_up = 2", "unknown setting optimizer.warm_up: did you mean warmup"),
        ("[batch]", "[batches]", "unknown setting batches: did you mean batch"),
        ("steps = 6", "", "steps is missing"),
        ("rate = 1e-3", "", "optimizer.rate is missing"),
        ("steps = 6", "steps = 6.5", "steps must be a whole number, not 6.5"),
        ("steps = 6", "steps = true", "steps must be a whole number, not True"),
        ("steps = 6", 'steps = "6"', "steps must be a whole number, not '6'"),
        ("steps = 6", "steps = 0", "steps must be above 0, not 0"),
        ("face_latent = 0.5", "face_latent = 1.5", "face_latent must be 0 to 1, not 1.5"),
        ("average = 0.9", "timestep_shift = 0", "timestep_shift must be above 0, not 0"),
        ("average = 0.9", "motion_weight = -1", "motion_weight must be at least 0, not -1"),
        ("average = 0.9", "average = nan", "average must be a number, not nan"),
        ("rate = 1e-3", "rate = 1e-3\nbetas = [0.9]", "optimizer.betas must be a list"),
        ("size = 4", 'size = 4\nprecision = "fp16"', "batch.precision must be fp32 or bf16, not 'fp16'"),
        ("[model.sizes]", '[model]\ntransformer = "x"\n[model.sizes]', "either a transformer"),
        ("[every]", "[dropout]\ntext = 0.6\nboth = 0.6\n[every]", "mutually exclusive"),
        ("[every]", "[lora]\n[every]", "needs existing weights"),
        ("save = 2", "save = 2\nsamples = 5", "add \\[samples\\]"),
        ("[batch]", "[batch", "is not TOML"),
    ],
)
def test_what_is_wrong_is_named(recipe_of: Make, old: str, new: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        recipe_of((old, new))


def test_muon_is_refused_for_a_lora(tmp_path: Path) -> None:
    path = tmp_path / "lora.toml"
    path.write_text(
        'examples = "e"\noutput = "o"\nsteps = 1\n[model]\ntransformer = "t"\n[lora]\n'
        "[optimizer]\nrate = 1e-3\nmuon = true\n",
        encoding="utf-8",
    )
    with pytest.raises(InvalidRequest, match="not a LoRA: remove muon or"):
        read_recipe(path)


def test_a_recipe_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_the_shipped_recipes_are_understood(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.batch.size % recipe.batch.micro == 0
    assert recipe.every.samples % recipe.every.save == 0
    if recipe.model.sizes:
        assert recipe.model.sizes.width == 64 * recipe.model.sizes.heads
