"""Gradients of the transformer equal those of diffusers' twin; those of IITF, finite differences."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck
from torch.func import functional_call

from echovideo_model.rotary import rotary_table
from echovideo_model.transformer import EchoVideoTransformer

from .test_transformer import SIZES, diffusers_twin, make_network, noise

BATCH, FRAMES, ROWS, COLUMNS = 2, 3, 3, 4
X, FACE = noise(BATCH, 16, FRAMES, 2 * ROWS, 2 * COLUMNS), noise(BATCH, 16, 1, 2 * ROWS, 2 * COLUMNS, seed=2)
CONTEXT, TIMESTEPS, TARGET = noise(BATCH, 7, 24, seed=1), torch.tensor([700, 20]), noise(*X.shape, seed=3)


def gradients(network: nn.Module, v: Tensor, *inputs: Tensor) -> dict[str, Tensor]:
    """Of the mean squared error, for each parameter that v depends on and for the inputs."""
    loss = (v - TARGET).square().mean()
    named = {**dict(network.named_parameters()), **{f"input {i}": x for i, x in enumerate(inputs)}}
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {name: value for name, value in zip(named, found, strict=True) if value is not None}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        difference = (ours[name] - expected).abs().max() / expected.abs().max()
        assert difference <= tolerance, f"{name}: {difference:.1e}"


def test_gradients_of_all_shared_parameters_equal_diffusers() -> None:
    network = make_network()
    twin = diffusers_twin(network)
    x, context = X.clone().requires_grad_(True), CONTEXT.clone().requires_grad_(True)
    ours = gradients(network, network(x, TIMESTEPS, context, FACE), x, context)

    both = torch.cat([x, torch.cat([FACE, FACE.new_zeros(X[:, :, 1:].shape)], dim=2)], dim=1)
    table = rotary_table(FRAMES, ROWS, COLUMNS)
    rotary = tuple(part.repeat_interleave(2, dim=-1) for part in (table.real, table.imag))
    v = twin(both.transpose(1, 2), context, TIMESTEPS, image_rotary_emb=rotary).sample.transpose(1, 2)
    theirs = gradients(twin, v, x, context)

    assert set(theirs) == {*dict(twin.named_parameters()), "input 0", "input 1"}
    assert_same(ours, theirs)


@pytest.mark.parametrize(
    "trained", ["transformer_blocks.0.attn1.to_q.weight", "transformer_blocks.1.norm2.linear.bias"]
)
def test_one_trained_parameter_gets_the_gradient_that_it_gets_among_all(trained: str) -> None:
    network = make_network()
    everything = gradients(network, network(X, TIMESTEPS, CONTEXT, FACE))
    network.requires_grad_(False).get_parameter(trained).requires_grad_(True)
    loss = (network(X, TIMESTEPS, CONTEXT, FACE) - TARGET).square().mean()
    (alone,) = torch.autograd.grad(loss, [network.get_parameter(trained)])
    assert_same({trained: alone}, {trained: everything[trained]})


def test_v_is_the_same_with_and_without_gradients() -> None:
    network = make_network()
    with torch.inference_mode():
        expected = network(X, TIMESTEPS, CONTEXT, FACE)
    assert torch.equal(network(X, TIMESTEPS, CONTEXT, FACE).detach(), expected)


def test_gradients_of_iitf_agree_with_finite_differences() -> None:
    network: EchoVideoTransformer = copy.deepcopy(make_network()).double()
    sources = [noise(1, 7, 24).double(), noise(1, 5, 20, seed=1).double(), noise(1, 12, seed=2).double()]
    own = {
        name: parameter.detach().requires_grad_(True)
        for name, parameter in network.named_parameters()
        if name.startswith(("face_", "text_proj"))
    }

    class Fuse(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self) -> Tensor:
            return self.network.fuse(*sources)

    fuse = Fuse()

    def context(*values: Tensor) -> Tensor:
        return functional_call(
            fuse, {f"network.{name}": value for name, value in zip(own, values, strict=True)}, ()
        )

    assert len(own) == len(network.state_dict()) - len(diffusers_twin(make_network()).state_dict())
    assert SIZES.iitf.layers == 2
    assert gradcheck(context, tuple(own.values()), fast_mode=True)
