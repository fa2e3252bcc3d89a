"""Rotary positions against diffusers' formula and first principles; the recorded tables are in test_parity.py."""

from __future__ import annotations

import math

import torch
from diffusers.models.embeddings import (
    apply_rotary_emb,
    get_1d_rotary_pos_embed,
    get_3d_rotary_pos_embed,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from echovideo_model.rotary import crop_region, rotary_table, rotate_


def test_the_base_size_takes_the_whole_grid_and_whole_positions() -> None:
    assert crop_region(30, 45) == (0, 0, 30, 45)
    table = rotary_table(13, 30, 45)
    cos, sin = get_3d_rotary_pos_embed(64, ((0, 0), (30, 45)), (30, 45), 13)
    torch.testing.assert_close(table.real.repeat_interleave(2, -1), cos, atol=1e-5, rtol=0)
    torch.testing.assert_close(table.imag.repeat_interleave(2, -1), sin, atol=1e-5, rtol=0)


@given(rows=st.integers(1, 128), columns=st.integers(1, 128))
def test_the_crop_lies_on_the_base_grid_centred_with_the_picture_s_aspect(rows: int, columns: int) -> None:
    top, left, bottom, right = crop_region(rows, columns)
    assert 0 <= top <= bottom <= 30
    assert 0 <= left <= right <= 45
    assert (bottom - top == 30) or (right - left == 45)
    assert abs(top - (30 - bottom)) <= 1
    assert abs(left - (45 - right)) <= 1
    assert abs((bottom - top) * columns - (right - left) * rows) <= max(rows, columns)  # within one cell


@settings(max_examples=30, deadline=None)
@given(frames=st.integers(1, 13), rows=st.integers(1, 60), columns=st.integers(1, 60))
def test_every_entry_is_a_rotation_and_the_first_frame_does_not_turn_in_time(
    frames: int, rows: int, columns: int
) -> None:
    table = rotary_table(frames, rows, columns)
    assert table.shape == (frames * rows * columns, 32)
    assert table.dtype == torch.complex64
    torch.testing.assert_close(table.abs(), torch.ones(table.shape))
    assert (table[: rows * columns, :8] == 1).all()


def test_a_table_is_made_once_per_size_and_only_the_last_few_are_kept() -> None:
    first = rotary_table(1, 1, 1)
    assert rotary_table(1, 1, 1) is first
    for other in range(2, 40):
        rotary_table(1, 1, other)
    again = rotary_table(1, 1, 1)
    assert again is not first
    assert torch.equal(again, first)


def test_gradients_pass_through_a_table_that_was_first_made_for_inference() -> None:
    with torch.inference_mode():
        table = rotary_table(1, 3, 7)
    x, turned = torch.randn(1, 21, 1, 64, requires_grad=True), torch.randn(1, 21, 1, 64)
    (rotate_(x.clone(), table) * rotate_(turned.clone(), table)).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, turned)  # turning both leaves their product as it was


def test_turning_equals_diffusers_and_works_in_place() -> None:
    table = rotary_table(2, 3, 4)
    x = torch.randn(2, 5 + 24, 3, 64, generator=torch.Generator().manual_seed(0))  # 5 text tokens in front
    rotary = tuple(part.repeat_interleave(2, dim=-1) for part in (table.real, table.imag))
    expected = x.clone()
    expected[:, 5:] = apply_rotary_emb(x[:, 5:].transpose(1, 2), rotary).transpose(1, 2)
    rotate_(x[:, 5:], table)
    torch.testing.assert_close(x, expected)


def test_a_16_bit_tensor_is_turned_in_float32() -> None:
    table = rotary_table(2, 3, 4)
    x = torch.randn(1, 24, 2, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    exact = rotate_(x.float(), table)
    assert torch.equal(rotate_(x, table), exact.bfloat16())


@given(frames=st.integers(1, 17))
def test_riflex_changes_no_bit_where_all_frames_lie_within_the_period_as_it_is(frames: int) -> None:
    assert torch.equal(rotary_table(frames, 1, 2, riflex=True), rotary_table(frames, 1, 2))


@given(frames=st.integers(18, 257))
def test_riflex_slows_the_second_frequency_in_time_and_no_other(frames: int) -> None:
    """By the published code's own line, freqs[k - 1] = 0.9 * 2 pi / L, over diffusers' other frequencies."""
    table, plain = rotary_table(frames, 1, 1, riflex=True), rotary_table(frames, 1, 1)
    positions = torch.arange(frames, dtype=torch.float64)
    others = get_1d_rotary_pos_embed(16, positions, use_real=False, freqs_dtype=torch.float64)
    turned = others.clone()
    turned[:, 1] = torch.exp(1j * positions * 0.9 * 2 * math.pi / frames)
    torch.testing.assert_close(table[:, :8], turned.to(torch.complex64), atol=1e-5, rtol=0)
    assert torch.equal(table[:, 8:], plain[:, 8:])
    assert not torch.equal(table, plain)
