"""A request that can be met is never refused; one that cannot be met is refused at once, and its value is named."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict, replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echovideo_model.errors import InvalidRequest
from echovideo_model.request import Request

WHOLE = ("height", "width", "frames", "steps", "seed")
NUMBERS = ("guidance_scale", "strength")

sides = st.integers(1, 256).map(lambda n: 16 * n)
frame_counts = st.integers(0, 256).map(lambda n: 4 * n + 1)
valid = st.builds(
    Request,
    prompt=st.text(),
    negative_prompt=st.text(),
    height=sides,
    width=sides,
    frames=frame_counts,
    steps=st.integers(1, 1000),
    seed=st.integers(0, 2**64 - 1),
    guidance_scale=st.floats(0, 100),
    guidance=st.sampled_from(["reference", "smooth", "constant"]),
    sampler=st.sampled_from(["dpm", "ddim"]),
    strength=st.floats(0, 1.5),
    face_latent=st.booleans(),
    riflex=st.booleans(),
)
outside = {
    "height": st.integers().filter(lambda n: not 16 <= n <= 4096 or n % 16),
    "width": st.integers().filter(lambda n: not 16 <= n <= 4096 or n % 16),
    "frames": st.integers().filter(lambda n: not 1 <= n <= 1025 or n % 4 != 1),
    "steps": st.integers().filter(lambda n: not 1 <= n <= 1000),
    "seed": st.integers(max_value=-1) | st.integers(min_value=2**64),
    "guidance_scale": st.floats().filter(lambda x: not 0 <= x <= 100),
    "strength": st.floats().filter(lambda x: not 0 <= x <= 1.5),
    "guidance": st.text().filter(lambda text: text not in ("reference", "smooth", "constant")),
    "sampler": st.text().filter(lambda text: text not in ("dpm", "ddim")),
}


def refusal(**changes: Any) -> str:
    with pytest.raises(InvalidRequest) as caught:
        Request(**{"prompt": "", **changes})
    return str(caught.value)


@given(valid)
def test_a_possible_request_is_never_refused(request: Request) -> None:
    batch, channels, latents, height, width = request.latent_shape
    assert (batch, channels) == (1, 16)
    assert (4 * (latents - 1) + 1, 8 * height, 8 * width) == (request.frames, request.height, request.width)
    assert height % 2 == width % 2 == 0  # in patches of 2 x 2


@given(valid)
def test_what_a_video_remembers_of_its_request_makes_the_same_request(request: Request) -> None:
    told = request.metadata()
    assert all(isinstance(text, str) for text in told.values())
    again: dict[str, Any] = dict(told)
    again |= {name: int(told[name]) for name in WHOLE} | {name: float(told[name]) for name in NUMBERS}
    again |= {name: told[name] == "True" for name in ("face_latent", "riflex")}
    assert Request(**again) == request


@pytest.mark.parametrize("field", outside)
@given(st.data())
def test_an_impossible_value_is_named_in_the_refusal(field: str, data: st.DataObject) -> None:
    value = data.draw(outside[field])
    message = refusal(**{field: value})
    assert str(value) in message or repr(value) in message
    assert field.removesuffix("s").split("_")[0] in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, value)
            for field in WHOLE
            for value in (49.0, True, math.nan, "49", None, [49], Decimal(49))
        ),
        *((field, value) for field in NUMBERS for value in (True, "1", None, [1], 1j, Decimal(1))),
        *((field, value) for field in ("guidance", "sampler") for value in (None, 1, ["dpm"], {})),
        *((field, value) for field in ("prompt", "negative_prompt") for value in (None, b"hi", 7, ["hi"])),
        *((name, value) for name in ("face_latent", "riflex") for value in (None, 0, 1, "no")),
    ],
)
def test_a_value_of_another_type_is_refused_and_not_converted(field: str, value: Any) -> None:
    message = refusal(**{field: value})
    assert repr(value) in message
    assert field in message


def test_numbers_too_large_for_a_float_are_refused_as_any_other() -> None:
    for field in (*WHOLE, *NUMBERS):
        assert str(10**400) in refusal(**{field: 10**400})


def test_numbers_of_numpy_are_taken_and_kept_as_pythons() -> None:
    request = Request(
        "",
        height=np.int64(64),
        frames=np.int32(5),
        seed=np.uint8(7),
        strength=np.float32(0.5),
        guidance_scale=2,
    )
    assert request == Request("", height=64, frames=5, seed=7, strength=0.5, guidance_scale=2.0)
    assert json.loads(json.dumps(asdict(request))) == asdict(request)
    assert Request("", strength=Fraction(1, 2)).strength == 0.5  # type: ignore[arg-type]


def test_a_prompt_with_a_byte_that_is_no_character_is_refused() -> None:
    # what a shell in another encoding hands over
    assert r"'\udcff' at position 3" in refusal(prompt="caf\udcff")
    assert "negative_prompt" in refusal(negative_prompt="\ud800")


@given(st.integers())
def test_the_frame_counts_that_a_refusal_suggests_are_possible_and_next_to_it(frames: int) -> None:
    try:
        Request("", frames=frames)
    except InvalidRequest as error:
        suggested = [
            int(number) for number in re.findall(r"\d+", str(error).partition("such as")[2].partition(")")[0])
        ]
        assert suggested
        for number in suggested:
            assert Request("", frames=number).frames == number
        if 1 <= frames <= 1025:
            assert min(suggested) < frames < max(suggested)
            assert max(suggested) - min(suggested) == 4


@given(st.integers())
def test_the_size_that_a_refusal_suggests_is_the_nearest_possible_one(pixels: int) -> None:
    try:
        Request("", width=pixels)
    except InvalidRequest as error:
        suggested = int(str(error).rpartition("such as ")[2].partition(")")[0])
        assert Request("", width=suggested).width == suggested
        assert abs(suggested - pixels) == min(abs(16 * n - pixels) for n in range(1, 257))


def test_the_sizes_and_the_length_that_were_trained_need_no_warning_and_others_do() -> None:
    for height, width in ((480, 640), (480, 848), (480, 480), (848, 480), (640, 480)):
        assert Request("", height=height, width=width).warnings() == []
    (size,) = Request("", height=720, width=1280).warnings()
    assert "1280x720" in size
    assert "848x480" in size
    (length,) = Request("", frames=53).warnings()
    assert "49 frames, not 53" in length
    assert len(Request("", height=64, frames=5).warnings()) == 2


def test_a_request_cannot_be_changed_but_a_changed_copy_is_checked() -> None:
    request = Request("")
    with pytest.raises(AttributeError):
        request.steps = 0  # type: ignore[misc]
    with pytest.raises(InvalidRequest, match=r"steps must be .*, not 0"):
        replace(request, steps=0)
