"""`echovideo draw`: the person that was asked for, the same one again, refusals in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.command_line.command import Run

pytest.importorskip("cv2")


def test_a_description_becomes_a_picture_and_says_who_it_is(echovideo: Run, workplace: Path) -> None:
    outcome = echovideo("draw", "a man with a ginger beard and round green glasses", "--output", "one.png")
    assert outcome.status == 0
    assert "ginger beard" in outcome.out
    assert "round green glasses" in outcome.out
    with Image.open(workplace / "one.png") as picture:
        assert picture.size == (512, 640)


def test_a_seed_is_one_person(echovideo: Run, workplace: Path) -> None:
    for name, seed in (("one.png", 5), ("again.png", 5), ("other.png", 6)):
        assert echovideo("draw", "--seed", seed, "--output", name).status == 0
    one, again, other = ((workplace / f"{name}.png").read_bytes() for name in ("one", "again", "other"))
    assert one == again != other


def test_a_seed_below_zero_is_refused(echovideo: Run) -> None:
    outcome = echovideo("draw", "--seed", -1)
    assert outcome.status == 2
    assert "-1" in outcome.err
