"""The autoencoder is the published one: diffusers and the recorded run are the judges."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor

from echovideo_model.errors import InvalidRequest, WrongModelFile
from echovideo_model.tiny.weights import draw_state
from echovideo_model.vae.autoencoder import LATENT_SCALE, CogVideoXVAE, VAESizes

GOLDEN = Path(__file__).parent / "golden" / "pipeline.safetensors"
RELEASED = VAESizes()
TINY = replace(RELEASED, channels=(8, 8, 16, 16), layers=1, groups=4)
OTHERS = [
    replace(RELEASED, channels=(32, 64, 64, 96), layers=2, latent_channels=4),
    replace(RELEASED, channels=(12, 6, 18, 24), layers=1, latent_channels=8, groups=3),
    replace(RELEASED, channels=(8, 16, 8), layers=1, groups=2),
]


def published(sizes: VAESizes) -> AutoencoderKLCogVideoX:
    levels = len(sizes.channels)
    return AutoencoderKLCogVideoX(
        block_out_channels=sizes.channels,
        layers_per_block=sizes.layers,
        latent_channels=sizes.latent_channels,
        norm_num_groups=sizes.groups,
        down_block_types=("CogVideoXDownBlock3D",) * levels,
        up_block_types=("CogVideoXUpBlock3D",) * levels,
    ).eval()


@lru_cache
def pair(sizes: VAESizes, seed: int = 0) -> tuple[CogVideoXVAE, AutoencoderKLCogVideoX]:
    """Ours and diffusers' autoencoder with the same weights."""
    ours, theirs = CogVideoXVAE(sizes), published(sizes)
    weights = draw_state(theirs, seed)
    theirs.load_state_dict(weights)
    ours.load_state_dict(weights)
    return ours, theirs


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-4) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()


def assert_decodes_alike(sizes: VAESizes, latents: Tensor) -> None:
    ours, theirs = pair(sizes)
    with torch.inference_mode():
        assert_equal(ours.decode(latents), theirs.decode(latents).sample)


def assert_encodes_alike(sizes: VAESizes, pixels: Tensor) -> None:
    ours, theirs = pair(sizes)
    with torch.inference_mode():
        mean, log_variance = ours.encode(pixels)
        judge = theirs.encode(pixels).latent_dist
    assert_equal(mean, judge.mean)
    assert_equal(log_variance, judge.logvar)


@pytest.mark.parametrize("frames", [1, 3, 5, 7, 9])
def test_decode_equals_the_reference_where_the_reference_is_right(frames: int) -> None:
    assert_decodes_alike(TINY, noise(1, 16, frames, 5, 6))


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 17, 21, 25])
def test_encode_equals_the_reference(frames: int) -> None:
    assert_encodes_alike(TINY, noise(1, 3, frames, 24, 40))


@pytest.mark.parametrize("sizes", OTHERS, ids=lambda sizes: "-".join(map(str, sizes.channels)))
def test_every_width_depth_and_group_count_equals_the_reference(sizes: VAESizes) -> None:
    assert_decodes_alike(sizes, noise(1, sizes.latent_channels, 5, 3, 4))
    assert_encodes_alike(sizes, noise(1, 3, 17, 24, 16))


def test_frames_large_enough_for_rearranged_convolutions_equal_the_reference() -> None:
    assert_decodes_alike(TINY, noise(1, 16, 5, 8, 7))
    assert_encodes_alike(TINY, noise(1, 3, 17, 64, 56))


def test_the_clips_of_a_batch_do_not_touch_each_other() -> None:
    assert_decodes_alike(TINY, noise(2, 16, 5, 3, 4))
    assert_encodes_alike(TINY, noise(2, 3, 17, 24, 16))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 3), st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_any_size_decodes_like_the_reference(pairs: int, height: int, width: int, seed: int) -> None:
    assert_decodes_alike(TINY, noise(1, 16, 1 + 2 * pairs, height, width, seed=seed))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_any_size_encodes_like_the_reference(fours: int, height: int, width: int, seed: int) -> None:
    assert_encodes_alike(TINY, noise(1, 3, 1 + 4 * fours, 8 * height, 8 * width, seed=seed))


def recorded(*names: str) -> list[Tensor]:
    with safe_open(GOLDEN, "pt") as file:
        return [file.get_tensor(name) for name in names]


def recorded_vae() -> CogVideoXVAE:
    with safe_open(GOLDEN, "pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["vae"])
    assert TINY.channels == tuple(config["block_out_channels"])
    vae = CogVideoXVAE(TINY)
    vae.load_state_dict(draw_state(vae, int(metadata["seed"])))
    return vae


def test_the_recorded_face_latent_comes_out_of_the_recorded_picture() -> None:
    picture, expected = recorded("vae_input", "face_latent_mean")
    mean, _ = recorded_vae().encode(picture[None, :, None])
    assert_equal(mean[0], expected)


def test_the_recorded_video_comes_out_of_the_recorded_latents() -> None:
    latents, expected = recorded("latents_final", "video")
    video = recorded_vae().decode(latents.transpose(1, 2) / LATENT_SCALE)
    assert_equal((video / 2 + 0.5).clamp(0, 1), expected.transpose(1, 2), tolerance=2e-3)


@given(st.integers(1, 9))
@settings(max_examples=9, deadline=None)
def test_every_latent_frame_after_the_first_becomes_four_frames(frames: int) -> None:
    assert pair(TINY)[0].decode(noise(1, 16, frames, 2, 3)).shape == (1, 3, 4 * frames - 3, 16, 24)


@pytest.mark.parametrize("frames", [4, 5, 6, 7])
def test_frames_of_the_first_chunk_do_not_depend_on_later_latents(frames: int) -> None:
    """Also where t is even and the reference gives no answer: the first chunk is 2 latents, so 5 frames."""
    vae, chunk = pair(TINY)[0], 2 + frames % 2
    latents = noise(1, 16, frames, 4, 4)
    other_end = torch.cat([latents[:, :, :chunk], noise(1, 16, frames - chunk, 4, 4, seed=1)], dim=2)
    alone = vae.decode(latents[:, :, :chunk])
    assert alone.shape[2] == 4 * chunk - 3
    for whole in (vae.decode(latents), vae.decode(other_end)):
        assert_equal(whole[:, :, : alone.shape[2]], alone, tolerance=1e-6)
    assert not torch.equal(vae.decode(latents), vae.decode(other_end))


def test_later_chunks_remember_what_came_before() -> None:
    vae = pair(TINY)[0]
    latents = noise(1, 16, 4, 4, 4)
    other_start = torch.cat([noise(1, 16, 2, 4, 4, seed=1), latents[:, :, 2:]], dim=2)
    first, second = (vae.decode(z)[:, :, 5:] for z in (latents, other_start))
    assert not torch.allclose(first[:, :, 0], second[:, :, 0], atol=1e-3)


def test_two_equal_latents_still_give_five_frames_that_start_with_the_single_one() -> None:
    """With two latents alike, what follows frame 0 is a still: nothing doubles frame 0 itself."""
    vae = pair(TINY)[0]
    still = noise(1, 16, 1, 4, 4).expand(-1, -1, 2, -1, -1)
    video = vae.decode(still)
    assert video.shape[2] == 5
    assert_equal(video, video[:, :, :1].expand_as(video))
    assert_equal(video[:, :, :1], vae.decode(still[:, :, :1]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_float32_as_the_references(dtype: torch.dtype) -> None:
    _, theirs = pair(TINY)
    latents = noise(1, 16, 3, 4, 4)
    narrow_ours, narrow_theirs = CogVideoXVAE(TINY, dtype=dtype), published(TINY).to(dtype)
    for network in (narrow_ours, narrow_theirs):
        network.load_state_dict(theirs.state_dict())
    with torch.inference_mode():
        exact = theirs.decode(latents).sample
        ours = narrow_ours.decode(latents.to(dtype))
        judge = narrow_theirs.decode(latents.to(dtype)).sample
    assert ours.dtype == dtype
    assert (ours.float() - exact).abs().mean() <= 1.2 * (judge.float() - exact).abs().mean()


@pytest.mark.parametrize("dtype", [torch.float16, torch.float8_e4m3fn])
def test_weights_narrower_than_the_computation_are_widened_on_use(dtype: torch.dtype) -> None:
    vae = CogVideoXVAE(TINY, dtype=dtype)
    vae.load_state_dict(draw_state(vae))
    wide = CogVideoXVAE(TINY)
    wide.load_state_dict(vae.state_dict())
    latents = noise(1, 16, 2, 2, 2)
    assert_equal(vae.decode(latents), wide.decode(latents))


@pytest.mark.parametrize("sizes", [RELEASED, TINY, *OTHERS])
def test_sizes_and_names_are_read_off_the_published_state_dict(sizes: VAESizes) -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in published(sizes).state_dict().items()}
    assert VAESizes.read(shapes, sizes.groups) == sizes
    ours = CogVideoXVAE(sizes, device="meta")
    assert {name: tuple(value.shape) for name, value in ours.state_dict().items()} == shapes


def list_shapes(sizes: VAESizes) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in CogVideoXVAE(sizes, device="meta").state_dict().items()}


def test_without_a_configuration_norms_have_the_released_number_of_groups() -> None:
    assert VAESizes.read(list_shapes(RELEASED)) == RELEASED


@pytest.mark.parametrize(("sizes", "groups"), [(TINY, None), (TINY, 16), (TINY, 0), (RELEASED, "many")])
def test_groups_that_cannot_divide_the_channels_are_refused(sizes: VAESizes, groups: int | None) -> None:
    with pytest.raises(WrongModelFile, match="norm_num_groups"):
        VAESizes.read(list_shapes(sizes), groups)


@pytest.mark.parametrize(("frames", "height", "width"), [(2, 16, 16), (4, 16, 16), (5, 20, 16), (5, 16, 4)])
def test_a_clip_that_does_not_fit_is_refused_with_its_size(frames: int, height: int, width: int) -> None:
    with pytest.raises(InvalidRequest, match=f"{frames} frames at {width} x {height}"):
        pair(TINY)[0].encode(noise(1, 3, frames, height, width))


def test_progress_is_reported_and_stops_what_it_refuses() -> None:
    calls: list[tuple[int, int]] = []
    vae = pair(TINY)[0]
    with torch.no_grad():
        vae.decode(noise(2, 16, 4, 1, 1), on_chunk=lambda *count: calls.append(count))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vae.encode(noise(1, 3, 9, 8, 8), on_chunk=stop)


def test_nothing_given_is_changed() -> None:
    vae = pair(TINY)[0]
    pixels, latents = noise(1, 3, 5, 16, 16), noise(1, 16, 3, 2, 2)
    copies = pixels.clone(), latents.clone()
    for gradients in (False, True):
        with torch.set_grad_enabled(gradients):
            vae.decode(latents), vae.encode(pixels)
    assert torch.equal(pixels, copies[0])
    assert torch.equal(latents, copies[1])


# ---- learning ---------------------------------------------------------------------------------------------------


def assert_same_gradients(ours: CogVideoXVAE, theirs: AutoencoderKLCogVideoX) -> None:
    gradients = {name: value.grad for name, value in theirs.named_parameters() if value.grad is not None}
    assert gradients
    for name, value in ours.named_parameters():
        assert (value.grad is None) == (name not in gradients), name
        if value.grad is not None:
            assert (value.grad - gradients[name]).norm() <= 1e-5 * gradients[name].norm(), name


@pytest.mark.parametrize("sizes", [TINY, *OTHERS[1:]], ids=lambda sizes: "-".join(map(str, sizes.channels)))
@pytest.mark.parametrize("frames", [1, 9, 17])
def test_gradients_equal_the_reference_s(sizes: VAESizes, frames: int) -> None:
    """Of every parameter of the encoder, then of the decoder, over one chunk and over two. (Where a group has one
    channel, a bias before the norm has no gradient but rounding: nothing to compare.)"""
    pixels = noise(2, 3, frames, 16, 24)
    for network in pair(sizes):
        network.zero_grad()
    ours, theirs = pair(sizes)
    mean, log_variance = ours.encode(pixels)
    judge = theirs.encode(pixels).latent_dist
    for moments in ((mean, log_variance), (judge.mean, judge.logvar)):
        sum((value * noise(*value.shape, seed=1)).sum() for value in moments).backward()
    assert_equal(mean, judge.mean)
    latents = mean.detach()
    for video in (ours.decode(latents), theirs.decode(latents).sample):
        (video * noise(*video.shape, seed=2)).sum().backward()
    assert all(value.grad is not None for value in ours.parameters())
    assert_same_gradients(ours, theirs)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 7), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2))
def test_with_and_without_gradients_the_results_are_the_same(
    t: int, height: int, width: int, batch: int
) -> None:
    """Also for even t, where the reference is no judge."""
    vae = pair(TINY)[0]
    latents, pixels = noise(batch, 16, t, height, width), noise(batch, 3, 4 * t - 3, 8 * height, 8 * width)
    with torch.no_grad():
        video, moments = vae.decode(latents), vae.encode(pixels)
    assert not video.requires_grad
    assert_equal(vae.decode(latents), video)
    for learning, frozen in zip(vae.encode(pixels), moments, strict=True):
        assert learning.requires_grad
        assert_equal(learning, frozen)


def test_the_latents_learn_through_a_frozen_decoder() -> None:
    vae = CogVideoXVAE(TINY).requires_grad_(False)
    vae.load_state_dict(draw_state(vae))
    latents = noise(1, 16, 2, 2, 2).requires_grad_()
    vae.decode(latents).square().mean().backward()
    assert latents.grad is not None
    assert latents.grad.abs().min() > 0
