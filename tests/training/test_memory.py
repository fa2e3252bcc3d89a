"""The computed memory agrees with what autograd really keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from echovideo_model.operations import scaled_dot_product_attention
from echovideo_model.rotary import rotary_table
from echovideo_model.training import memory
from echovideo_model.training.memory import estimate, estimate_memory
from echovideo_model.training.recipe import LoRA, Recipe
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes


def test_a_block_on_the_meta_device_keeps_what_a_real_one_keeps(recipe_of: Callable[..., Recipe]) -> None:
    sizes = recipe_of().model.sizes
    assert sizes is not None
    real = EchoVideoTransformer(sizes)
    for parameter in real.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    tokens = torch.randn(2, 6 + 3 * 8 * 8, sizes.width, requires_grad=True)
    rotary = rotary_table(3, 8, 8, sizes.head_width)
    with memory._count_kept(real) as kept:
        real.transformer_blocks[0](
            tokens * 1, 6, torch.randn(2, sizes.time_width), rotary, scaled_dot_product_attention
        )
    with torch.device("meta"):
        computed = EchoVideoTransformer(sizes)
    entering, block = memory._count_block(computed, (3, 16, 16), 2, torch.float32)
    assert entering == tokens.nbytes
    assert block == pytest.approx(sum(kept.values()), rel=0.05)


def test_what_each_choice_costs() -> None:
    sizes = TransformerSizes()
    full = estimate(sizes, (13, 60, 106), weights="fp32", lora=None)
    lora = estimate(sizes, (13, 60, 106), lora=LoRA())
    narrow = estimate(sizes, (13, 60, 106), weights="fp8_e4m3fn", lora=LoRA())
    parameters = 5.62e9
    assert full["weights"] == pytest.approx(4 * parameters, rel=0.01)
    assert full["gradients, optimiser, average"] == pytest.approx(16 * parameters, rel=0.01)
    assert lora["weights, frozen"] == pytest.approx(2 * parameters, rel=0.01)
    assert lora["weights, trained"] == 4 * 42 * 4 * 2 * 16 * 3072  # layers of a block, down and up
    assert narrow["weights, frozen"] < 0.6 * lora["weights, frozen"]
    assert sum(lora.values()) < 24e9
    kept = estimate(sizes, (13, 60, 106), lora=LoRA(), checkpointing=False)
    assert kept["activations"] > 9 * lora["activations"]


def test_of_a_recipe_the_largest_examples_count(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of()
    assert recipe.model.sizes is not None
    one = estimate(recipe.model.sizes, (2, 4, 6), 2, "fp32", "fp32", checkpointing=False)
    assert estimate_memory(recipe) == one
    twice = replace(recipe, batch=replace(recipe.batch, micro=4))
    assert estimate_memory(twice)["activations"] == pytest.approx(2 * one["activations"], rel=0.02)
