"""The layers compute what torch's own compute, whatever their weights are stored as."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from echovideo_model import operations

dtypes = st.sampled_from([torch.float32, torch.bfloat16, torch.float64])
shapes = st.one_of(
    st.just(()),  # one vector
    st.tuples(st.integers(0, 200)),
    st.tuples(st.integers(0, 3), st.integers(0, 90)),
    st.tuples(st.integers(1, 2), st.integers(0, 9), st.integers(0, 20)),
)


def laid_out(shape: tuple[int, ...], how: str, generator: torch.Generator) -> Tensor:
    """Random numbers of that shape, in memory as views of other tensors have them."""
    *rows, width = shape
    if how == "strided":
        return torch.randn(*rows, 2 * width, generator=generator)[..., ::2]
    if how == "a slice":
        return torch.randn(*rows, width + 3, generator=generator)[..., 2:-1]
    if how == "turned":
        return torch.randn(*shape[::-1], generator=generator).permute(*range(len(shape))[::-1])
    if how == "repeated":
        return torch.randn(width, generator=generator).expand(shape)
    return torch.randn(shape, generator=generator)


@settings(max_examples=150, deadline=None)
@given(
    rows=shapes,
    width=st.integers(1, 40),
    out=st.integers(1, 40),
    how=st.sampled_from(["contiguous", "strided", "a slice", "turned", "repeated"]),
    bias=st.booleans(),
    dtype=dtypes,
    seed=st.integers(0, 99),
)
def test_linear_is_torchs_for_inputs_of_any_shape_and_layout(
    rows: tuple[int, ...], width: int, out: int, how: str, bias: bool, dtype: torch.dtype, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    layer = operations.Linear(width, out, bias=bias, dtype=dtype).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = laid_out((*rows, width), how, generator).to(dtype)
    given, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    assert given.shape == expected.shape
    assert given.dtype == dtype
    assert given.is_contiguous()
    torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [3, 300], ids=["few rows", "many rows"])
@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_torch(rows: int, bias: bool) -> None:
    torch.manual_seed(0)
    theirs = nn.Linear(20, 30, bias=bias)
    ours = operations.Linear(20, 30, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, rows, 20)
    grads = []
    for layer in (ours, theirs):
        leaf = x.clone().requires_grad_(True)
        layer(leaf).square().sum().backward()
        grads.append([leaf.grad, *(parameter.grad for parameter in layer.parameters())])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


LAYERS: dict[str, tuple[nn.Module, nn.Module, tuple[int, ...]]] = {
    "Linear": (operations.Linear(8, 12), nn.Linear(8, 12), (2, 100, 8)),
    "Conv2d": (operations.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 4, 3, padding=1), (2, 8, 5, 6)),
    "Conv3d": (operations.Conv3d(8, 4, (3, 1, 1)), nn.Conv3d(8, 4, (3, 1, 1)), (2, 8, 5, 6, 7)),
    "LayerNorm": (operations.LayerNorm(8, eps=1e-6), nn.LayerNorm(8, eps=1e-6), (2, 3, 8)),
    "GroupNorm": (operations.GroupNorm(2, 8, eps=1e-6), nn.GroupNorm(2, 8, eps=1e-6), (2, 8, 3, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    "stored", [torch.float8_e4m3fn, torch.float16, torch.bfloat16, torch.float32], ids=str
)
def test_stored_weights_compute_as_the_same_weights_cast_to_the_input(
    name: str, stored: torch.dtype, computed: torch.dtype
) -> None:
    ours, theirs, shape = copy.deepcopy(LAYERS[name])
    generator = torch.Generator().manual_seed(0)
    state = {
        key: torch.randn(value.shape, generator=generator).to(stored)
        for key, value in theirs.state_dict().items()
    }
    ours.load_state_dict(state, assign=True)
    theirs.load_state_dict({key: value.to(computed) for key, value in state.items()}, assign=True)
    x = torch.randn(shape, generator=generator).to(computed)
    with torch.inference_mode():
        given, expected = ours(x), theirs(x)
    assert given.dtype == computed
    torch.testing.assert_close(given, expected, rtol=1e-5, atol=1e-5)
    assert {parameter.dtype for parameter in ours.parameters()} == {stored}


@pytest.mark.parametrize("name", LAYERS)
def test_making_a_layer_draws_no_random_numbers(name: str) -> None:
    """They would take minutes for the released model, and are overwritten."""
    ours = LAYERS[name][0]
    before = torch.get_rng_state()
    ours.reset_parameters()  # type: ignore[operator]
    assert torch.equal(torch.get_rng_state(), before)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 2), st.integers(1, 3), st.integers(1, 9), st.integers(1, 8))
def test_attention_is_softmax_of_scaled_products_with_heads_side_by_side(
    batch: int, heads: int, tokens: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(tokens)
    q, k, v = (torch.randn(batch, heads, tokens, width, generator=generator) for _ in range(3))
    mixed: Any = (q @ k.mT / width**0.5).softmax(-1) @ v  # [B, heads, N, D]
    expected = torch.cat(list(mixed.unbind(1)), dim=-1)  # [B, N, heads * D]
    torch.testing.assert_close(operations.scaled_dot_product_attention(q, k, v), expected)


def test_attention_trained_in_bfloat16_on_a_cpu_has_the_gradients_of_float32() -> None:
    """It takes another way than float32 does, because PyTorch's own is slow there."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 3, 20, 16, generator=generator).bfloat16() for _ in range(3)]
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        q, k, v = (x.detach().to(dtype, copy=True).requires_grad_(True) for x in inputs)
        out = operations.scaled_dot_product_attention(q, k, v)
        out.square().mean().backward()
        results.append([out, q.grad, k.grad, v.grad])
    for narrow, wide in zip(*results, strict=True):
        assert (narrow.float() - wide).norm() < 0.02 * wide.norm()
