"""VBench's rules for motion and flicker, on motion that is known, and RAFT as torchvision has it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from echovideo_model.errors import InvalidRequest, ModelFileMissing, WrongModelFile
from echovideo_model.metrics.motion import RaftThings, measure_flicker, measure_motion


def uniform(length: float, share: float = 1.0) -> Tensor:
    """A flow of which `share` of the vectors is that long and the rest 0: [1, 2, 480, 848]."""
    flow = torch.zeros(1, 2, 480 * 848)
    flow[:, 0, : round(480 * 848 * share)] = length * 0.6
    flow[:, 1, : round(480 * 848 * share)] = length * 0.8
    return flow.unflatten(2, (480, 848))


def released() -> list[np.ndarray]:
    """49 frames of the released size, all the same array: what moves is up to the flow."""
    return [np.zeros((480, 848, 3), np.uint8)] * 49


def flows(*each: Tensor) -> object:
    left = list(each)
    return lambda one, other: left.pop(0)


@pytest.mark.parametrize(
    ("length", "moving", "moves"),
    [(11.26, 6, True), (11.26, 5, False), (11.24, 24, False), (11.25, 24, False)],
)
def test_a_released_video_moves_if_6_of_24_pairs_exceed_11_25_pixels(
    length: float, moving: int, moves: bool
) -> None:
    pairs = [uniform(length)] * moving + [uniform(0)] * (24 - moving)
    motion = measure_motion(released(), 16, flows(*pairs))
    assert (motion.interval, len(motion.pairs), motion.needed, motion.threshold) == (2, 24, 6, 11.25)
    assert motion.moves is moves


@pytest.mark.parametrize(("share", "expected"), [(0.05, 20), (0.5, 20), (0.04, 16), (0.01, 4)])
def test_a_pair_s_motion_is_the_mean_of_its_largest_twentieth(share: float, expected: float) -> None:
    motion = measure_motion(released()[:3], 16, flows(uniform(20, share)))
    assert motion.pairs[0] == pytest.approx(expected, abs=1e-3)


def find_roll(one: Tensor, other: Tensor) -> Tensor:
    """A flow network for pictures that were rolled to the right."""
    shift = next(by for by in range(one.shape[-1]) if torch.equal(one.roll(by, -1), other))
    flow = torch.zeros(1, 2, *one.shape[-2:])
    flow[:, 0] = shift
    return flow


@pytest.mark.parametrize(
    ("side", "shift", "moves"), [(480, 11, False), (480, 12, True), (256, 6, False), (256, 7, True)]
)
def test_a_texture_that_moves_just_under_and_just_over_the_threshold(
    side: int, shift: int, moves: bool
) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    frames = [np.roll(texture, shift * number, 1) for number in range(9)]
    assert measure_motion(frames, 8, find_roll).moves is moves


def test_a_still_video_does_not_move_however_short() -> None:
    still = [np.zeros((128, 128, 3), np.uint8)] * 49
    for count in (2, 3, 5, 49):  # round(4 n / 16) is 0 for two frames
        assert not measure_motion(still[:count], 8, find_roll).moves


@pytest.mark.parametrize(
    ("fps", "interval"), [(4, 1), (8, 1), (12, 2), (16, 2), (23.976, 3), (24, 3), (30, 4), (60, 8)]
)
def test_a_frame_is_looked_at_every_eighth_of_a_second(fps: float, interval: int) -> None:
    texture = np.zeros((128, 128, 3), np.uint8)
    motion = measure_motion([texture] * 25, fps, find_roll)
    assert motion.interval == interval
    assert len(motion.pairs) == len(range(0, 25, interval)) - 1


@settings(max_examples=20, deadline=None)
@given(st.integers(128, 170), st.integers(128, 170))
def test_any_size_reaches_the_network_in_multiples_of_8_with_its_edges_repeated(
    height: int, width: int
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seen = []

    def watch(one: Tensor, other: Tensor) -> Tensor:
        seen.append(one)
        return torch.zeros(1, 2, *one.shape[-2:])

    assert measure_motion([frame, frame], 8, watch).threshold == 6 * min(height, width) / 256
    (picture,) = seen
    assert picture.shape[-2] % 8 == picture.shape[-1] % 8 == 0
    top, left = (picture.shape[-2] - height) // 2, (picture.shape[-1] - width) // 2
    inside = picture[0, :, top : top + height, left : left + width].permute(1, 2, 0)
    assert np.array_equal(inside.numpy(), frame)  # 0..255, RGB
    assert torch.equal(picture[0, :, 0, left], inside[0, 0])


@pytest.mark.parametrize(("count", "side", "said"), [(1, 128, "motion needs two"), (5, 127, "128 x 128")])
def test_what_has_no_motion_is_said(count: int, side: int, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        measure_motion([np.zeros((side, 200, 3), np.uint8)] * count, 8, find_roll)


def test_raft_is_torchvision_s_with_20_updates_on_pictures_of_0_to_255(tmp_path: Path) -> None:
    vision = pytest.importorskip("torchvision", reason="DynamicDegree needs torchvision")
    torch.manual_seed(0)
    network = vision.models.optical_flow.raft_large(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    pictures = torch.randint(0, 256, (2, 1, 3, 128, 136), dtype=torch.uint8)
    before = torch.random.get_rng_state()
    raft = RaftThings.load(tmp_path / "raft.pth")
    assert torch.equal(before, torch.random.get_rng_state())
    prepare = vision.models.optical_flow.Raft_Large_Weights.C_T_V1.transforms()
    with torch.inference_mode():
        expected = network(*prepare(*pictures), num_flow_updates=20)[-1]
        default = network(*prepare(*pictures))[-1]
    found = raft(*pictures.float())
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (found - default).abs().max() > 1e-3 * expected.abs().max()


def test_a_raft_file_that_is_missing_or_another_s_is_named(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="DynamicDegree needs torchvision")
    with pytest.raises(ModelFileMissing, match="--only evaluation"):
        RaftThings.load(tmp_path / "raft.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "raft.pth")
    with pytest.raises(WrongModelFile, match="is not RAFT-things"):
        RaftThings.load(tmp_path / "raft.pth")


def test_flicker_is_255_less_the_mean_absolute_error() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (5, 30, 41, 3), dtype=np.uint8)
    pictures = torch.from_numpy(frames).double()
    expected = [(255 - F.l1_loss(one, other)) / 255 for one, other in itertools.pairwise(pictures)]
    assert measure_flicker(list(frames)) == pytest.approx([float(value) for value in expected], abs=1e-6)


def test_nothing_flickers_where_nothing_changes_and_one_frame_cannot() -> None:
    frame = np.full((8, 8, 3), 200, np.uint8)  # bytes would wrap around in a subtraction
    assert measure_flicker([frame, frame]) == (1.0,)
    assert measure_flicker([frame, frame * 0]) == (pytest.approx(55 / 255),)
    with pytest.raises(InvalidRequest, match="flicker needs two"):
        measure_flicker([frame])
