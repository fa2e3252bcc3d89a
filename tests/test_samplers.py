"""Schedule, samplers and guidance against diffusers' CogVideoX schedulers and against what each of them means."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from echovideo_model.errors import Cancelled, InvalidRequest
from echovideo_model.samplers import SeededNoise, sample
from echovideo_model.schedule import (
    add_noise,
    alphas_cumprod,
    denoised,
    guidance_scale,
    plan_steps,
    timesteps,
    velocity,
)

SHAPE = (1, 4, 3, 6, 8)
RELEASED = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "snr_shift_scale": 1.0,
    "set_alpha_to_one": True,
    "clip_sample": False,
}


def model(x: Tensor, t: int) -> Tensor:
    """A stand-in that is neither linear in x nor flat in time."""
    return torch.tanh(x) * math.cos(t / 300) + 0.1 * x


def unit_noise(generator: torch.Generator) -> Callable[[], Tensor]:
    return lambda: torch.randn(SHAPE, generator=generator)


def by_diffusers(name: str, steps: int, x: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(7)
    if name == "ddim":
        scheduler = CogVideoXDDIMScheduler(**RELEASED)
        scheduler.set_timesteps(steps)
        for t in scheduler.timesteps:
            x = scheduler.step(model(x, int(t)), t, x).prev_sample
        return x
    scheduler, old = CogVideoXDPMScheduler(**RELEASED), None
    scheduler.set_timesteps(steps)
    for i, t in enumerate(scheduler.timesteps):
        before = scheduler.timesteps[i - 1] if i else None
        x, old = scheduler.step(model(x, int(t)), old, t, before, x, generator=generator, return_dict=False)
    return x


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 10, 13, 25, 50, 333])
@pytest.mark.parametrize("name", ["dpm", "ddim"])
def test_every_step_count_ends_where_diffusers_ends(name: str, steps: int) -> None:
    """Also those that do not divide 1000, where the reference steps to t - 1000 // N, not to the next timestep."""
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    noise = unit_noise(torch.Generator().manual_seed(7))
    ours = sample(name, plan_steps(steps), x, lambda x, step: model(x, step.t), noise)  # type: ignore[arg-type]
    torch.testing.assert_close(ours, by_diffusers(name, steps, x), atol=1e-5, rtol=1e-4)


@given(steps=st.integers(1, 1000))
def test_timesteps_begin_at_the_very_noise_and_descend(steps: int) -> None:
    listed = timesteps(steps)
    assert len(listed) == steps
    assert listed[0] == 999
    assert all(a > b >= 0 for a, b in itertools.pairwise(listed))
    assert listed[-1] <= 1000 / steps


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_other_step_counts_are_refused_with_what_is_allowed(steps: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"from 1 to 1000 .*, not {steps}$"):
        plan_steps(steps)


def test_the_last_timestep_holds_no_signal_at_all() -> None:
    power = alphas_cumprod()
    assert len(power) == 1000
    assert power[-1] == 0
    assert 0.999 < power[0] < 1
    assert all(a > b for a, b in itertools.pairwise(power))


@settings(max_examples=50)
@given(levels=st.lists(st.integers(0, 999), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_noising_and_velocity_are_diffusers(levels: list[int], seed: int) -> None:
    """For a batch of clips, each at a level of its own; and v leads back to the clip."""
    generator = torch.Generator().manual_seed(seed)
    x0, noise = (torch.randn(len(levels), *SHAPE[1:], generator=generator) for _ in range(2))
    a, t = torch.tensor(alphas_cumprod())[levels], torch.tensor(levels)
    theirs = CogVideoXDDIMScheduler(**RELEASED)
    x, v = add_noise(x0, noise, a), velocity(x0, noise, a)
    torch.testing.assert_close(x, theirs.add_noise(x0, noise, t), atol=1e-5, rtol=0)
    torch.testing.assert_close(v, theirs.get_velocity(x0, noise, t), atol=1e-5, rtol=0)
    torch.testing.assert_close(denoised(x, v, a), x0, atol=1e-5, rtol=0)
    alone = add_noise(x0[:1], noise[:1], alphas_cumprod()[levels[0]])
    torch.testing.assert_close(alone, x[:1], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["dpm", "ddim"])
def test_a_model_that_knows_the_end_is_led_there(name: str) -> None:
    end = torch.full(SHAPE, 0.7)

    def knowing(x: Tensor, step: object) -> Tensor:
        a = step.a  # type: ignore[attr-defined]
        return (a**0.5 * x - end) / (1 - a) ** 0.5

    noise = unit_noise(torch.Generator().manual_seed(7))
    x = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(sample(name, plan_steps(20), x, knowing, noise), end, atol=1e-4, rtol=0)  # type: ignore[arg-type]


@pytest.mark.parametrize(("steps", "draws"), [(1, 1), (2, 2), (4, 6), (10, 18), (7, 13)])
def test_dpm_draws_noise_as_often_as_the_reference(steps: int, draws: int) -> None:
    """Once in the first step and in one that ends below timestep 0, else twice; at 7 steps none ends there."""
    drawn = []

    def noise() -> Tensor:
        drawn.append(1)
        return torch.zeros(SHAPE)

    sample("dpm", plan_steps(steps), torch.zeros(SHAPE), lambda x, step: x, noise)
    assert len(drawn) == draws


def test_ddim_draws_no_noise() -> None:
    def noise() -> Tensor:
        raise AssertionError

    sample("ddim", plan_steps(5), torch.ones(SHAPE), lambda x, step: x, noise)


def test_raising_in_the_callback_stops_between_two_steps() -> None:
    seen = []

    def on_step(step: object, steps: int, x: Tensor, x0: Tensor) -> None:
        seen.append(step.index)  # type: ignore[attr-defined]
        if len(seen) == 3:
            raise Cancelled("stop")

    with pytest.raises(Cancelled):
        sample(
            "ddim", plan_steps(10), torch.ones(SHAPE), lambda x, step: x, lambda: torch.zeros(SHAPE), on_step
        )
    assert seen == [0, 1, 2]


def test_smooth_guidance_falls_from_full_to_none_and_constant_stays() -> None:
    run = plan_steps(50)
    smooth = [guidance_scale("smooth", 6, step, 50) for step in run]
    assert smooth[0] == 7
    assert smooth == sorted(smooth, reverse=True)
    assert smooth[-1] == pytest.approx(1, abs=1e-6)
    assert {guidance_scale("constant", 6, step, 50) for step in run} == {6}


def test_reference_guidance_jumps_as_published() -> None:
    scales = [guidance_scale("reference", 6, step, 50) for step in plan_steps(50)]
    assert min(scales) == pytest.approx(1, abs=1e-3)
    assert max(scales) == pytest.approx(7, abs=1e-3)
    assert sum(abs(a - b) > 1 for a, b in itertools.pairwise(scales)) > 20


def test_the_random_numbers_of_a_video_are_the_references_in_its_order() -> None:
    """One generator, frame by frame: initial noise, the face latent's sample, then step by step."""
    ours, theirs = SeededNoise(3, (2, 16, 3, 4, 6)), torch.Generator().manual_seed(3)
    for drawn, batch, frames in ((ours.initial(), 2, 3), (ours.face(), 1, 1), (ours.step(), 2, 3)):
        expected = torch.randn(batch, frames, 16, 4, 6, generator=theirs)
        assert torch.equal(drawn.transpose(1, 2), expected)
