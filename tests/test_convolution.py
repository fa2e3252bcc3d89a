"""Rearranged convolutions are the same convolutions: the layer itself, called as it is, is the judge."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from echovideo_model.vae.convolution import MINIMAL_FILTERS, EnlargedConvolution, TimeConvolution
from echovideo_model.vae.layers import CausalConv3d, Stream


class Counting3d(nn.Conv3d):
    """A layer that counts its calls, so that a test can tell whether it was gone around."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer3d(c_in: int = 5, c_out: int = 4, dtype: torch.dtype = torch.float32) -> Counting3d:
    layer = Counting3d(c_in, c_out, 3, padding=(0, 1, 1))
    layer.weight.data, layer.bias.data = noise(c_out, c_in, 3, 3, 3, seed=1), noise(c_out, seed=2)
    return layer.to(dtype).requires_grad_(False)


def judge3d(layer: nn.Conv3d, frames: Tensor) -> Tensor:
    """n + 2 frames [n + 2, H, W, C] -> [n, H, W, C out]."""
    x = frames.permute(3, 0, 1, 2)[None]
    return F.conv3d(x, layer.weight, layer.bias, padding=layer.padding)[0].permute(1, 2, 3, 0)


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("outputs", MINIMAL_FILTERS)
def test_minimal_filters_are_filters_exactly(outputs: int) -> None:
    filters = MINIMAL_FILTERS[outputs]
    spread, taps, combine = (
        torch.tensor(v, dtype=torch.float64) for v in (filters.spread, filters.taps, filters.combine)
    )
    filter, inputs = noise(3).double(), noise(outputs + 2).double()
    expected = inputs.unfold(0, 3, 1) @ filter
    torch.testing.assert_close(combine @ ((taps @ filter) * (spread @ inputs)), expected)
    assert set(combine[:, 1].tolist()) == {1.0}  # the product that carries the bias


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 33), (46, 45), (3, 5), (1, 1)])
def test_a_run_of_frames_is_convolved_as_by_the_layer(frames: int, height: int, width: int) -> None:
    layer, clip = layer3d(), noise(frames + 2, height, width, 5)
    out = torch.stack(TimeConvolution(layer, clip)(list(clip)))
    assert_equal(out, judge3d(layer, clip))


@given(st.integers(1, 12), st.integers(1, 6), st.booleans())
@settings(max_examples=25, deadline=None)
def test_chunks_of_any_length_join_to_one_causal_convolution(first: int, then: int, small: bool) -> None:
    layer = CausalConv3d(3, 4, nn)
    layer.conv = layer3d(3)
    clip = noise(first + then, *((4, 3) if small else (50, 41)), 3)
    history: dict[nn.Module, list[Tensor]] = {}
    start = layer(list(clip[:first]), Stream(clip, last=False, history=history))
    end = layer(list(clip[first:]), Stream(clip, first=False, history=history))
    whole = judge3d(layer.conv, torch.cat([clip[:1], clip[:1], clip]))
    assert_equal(torch.stack(start + end), whole)
    assert not history


def test_a_lone_picture_is_convolved_as_a_still() -> None:
    layer = CausalConv3d(5, 4, nn)
    layer.conv = layer3d()
    picture = noise(1, 50, 44, 5)
    assert_equal(
        layer(list(picture), Stream(picture))[0][None], judge3d(layer.conv, picture.expand(3, -1, -1, -1))
    )
    assert layer.conv.calls == 0


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_an_enlarged_frame_is_convolved_as_by_the_layer(height: int, width: int, channels: int) -> None:
    layer = nn.Conv2d(channels, 3, 3, padding=1).requires_grad_(False)
    frame = noise(height, width, channels)
    out = EnlargedConvolution(layer, frame)(frame)
    enlarged = frame.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert_equal(out, layer(enlarged.permute(2, 0, 1)[None])[0].permute(1, 2, 0))


def test_weights_changed_between_two_calls_are_seen() -> None:
    layer = CausalConv3d(5, 4, nn)
    layer.conv = layer3d()
    clip = noise(4, 50, 44, 5)
    before = torch.stack(layer(list(clip), Stream(clip)))
    layer.conv.weight.mul_(2)
    layer.conv.bias.mul_(2)
    assert_equal(torch.stack(layer(list(clip), Stream(clip))), 2 * before)


@pytest.mark.parametrize("patched", ["weight_function", "bias_function"])
def test_a_layer_whose_weights_the_host_patches_on_the_way_is_called_itself(patched: str) -> None:
    layer, clip = layer3d(), noise(6, 50, 44, 5)
    setattr(layer, patched, [lambda weight: weight])
    out = torch.stack(TimeConvolution(layer, clip)(list(clip)))
    assert_equal(out, judge3d(layer, clip))
    assert layer.calls == 1


def test_half_precision_is_left_to_the_layer() -> None:
    layer, clip = layer3d(dtype=torch.bfloat16), noise(3, 50, 44, 5).bfloat16()
    out = torch.stack(TimeConvolution(layer, clip)(list(clip)))
    assert torch.equal(out, judge3d(layer, clip))
    assert layer.calls == 1


def test_kernels_narrower_than_the_frames_are_widened() -> None:
    layer, clip = layer3d(dtype=torch.bfloat16), noise(4, 50, 44, 5)
    out = torch.stack(TimeConvolution(layer, clip)(list(clip)))
    assert_equal(out, judge3d(layer.float(), clip))
