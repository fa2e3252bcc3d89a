"""A new transformer begins finite, as the identity, with the text in its place, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from echovideo_model.training.examples import generator
from echovideo_model.training.initial import initialise
from echovideo_model.training.recipe import Recipe
from echovideo_model.transformer import EchoVideoTransformer


def make(recipe: Recipe, seed: int = 0) -> EchoVideoTransformer:
    assert recipe.model.sizes is not None
    network = EchoVideoTransformer(recipe.model.sizes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(torch.nan)  # as memory may be that nobody has written to
    initialise(network, generator(seed))
    return network


def test_every_parameter_is_given_a_value_and_nothing_is_predicted(recipe_of: Callable[..., Recipe]) -> None:
    network = make(recipe_of())
    assert all(parameter.isfinite().all() for parameter in network.parameters())
    v = network(torch.randn(1, 16, 2, 4, 4), torch.tensor([500]), torch.randn(1, 6, 16))
    assert torch.equal(v, torch.zeros_like(v))


def test_text_goes_through_iitf_beside_the_person(recipe_of: Callable[..., Recipe]) -> None:
    network = make(recipe_of())
    text, face, person = torch.randn(1, 6, 16), torch.randn(1, 196, 768), torch.randn(1, 512)
    context = network.fuse(text, face, person)
    other = network.fuse(text + 1, face, person)
    torch.testing.assert_close(other - context, torch.ones_like(text), atol=1e-4, rtol=0)
    assert not torch.allclose(network.fuse(text, face, -person), context, atol=1e-2)
    assert not torch.allclose(network.fuse(text, -face, person), context, atol=1e-2)


def test_a_seed_gives_the_same_network(recipe_of: Callable[..., Recipe]) -> None:
    first, again, other = (make(recipe_of(), seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not torch.equal(first["text_proj.weight"], other["text_proj.weight"])
