"""How much a video moves and flickers: VBench's rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import InvalidRequest
from .frames import Frames, as_tensor
from .judges import fill, import_judge

RAFT = "raft_large_C_T_V1-22a6c225.pth"  # RAFT-things, ported by torchvision, whose default weights are different
UPDATES = 20  # torchvision's default is 12
FASTEST_SHARE = 0.05  # of a pair's flow vectors
MIN_FLOW_SIDE = 128  # pixels: below this RAFT's smallest correlation map is empty

Flow = Callable[[Tensor, Tensor], Tensor]
"""Two pictures [1, 3, H, W] in 0..255, H and W multiples of 8, to each pixel's way to the other [1, 2, H, W]."""


@dataclass(frozen=True)
class Motion:
    """The motion of each pair of frames looked at, in pixels, and what VBench makes of it."""

    interval: int  # from one frame looked at to the next
    pairs: tuple[float, ...]
    threshold: float  # pixels
    needed: int  # pairs above the threshold

    @property
    def moves(self) -> bool:
        """VBench's verdict on a video; its score is the share of videos that move."""
        return sum(motion > self.threshold for motion in self.pairs) >= self.needed


def measure_motion(
    frames: Frames, fps: float, flow: Flow, on_pair: Callable[[int, int], None] | None = None
) -> Motion:
    """DynamicDegree (VBench, dynamic_degree.py): one frame every 1/8 s, and the largest 5 % of each pair's flow.

    A pair's motion is the mean length of the largest 5 % of its flow vectors; it counts above 6 min(H, W) / 256 pixels;
    the video moves if round(4 n / 16) pairs of its n frames count. If that is 0, for two frames, one pair is needed
    here: VBench would say that any such video moves. Raises InvalidRequest for fewer than two frames, and for sides
    below MIN_FLOW_SIDE.
    """
    interval = max(1, round(fps / 8))
    chosen = frames[::interval]
    height, width = frames[0].shape[:2]
    if len(chosen) < 2:
        raise InvalidRequest(f"{len(chosen)} frame at one every 1/8 s: motion needs two")
    if min(height, width) < MIN_FLOW_SIDE:
        raise InvalidRequest(
            f"optical flow needs frames of at least {MIN_FLOW_SIDE} x {MIN_FLOW_SIDE} pixels, not "
            f"{width} x {height}"
        )
    pairs = []
    for number in range(len(chosen) - 1):
        one, other = (_pad(as_tensor([chosen[index]])) for index in (number, number + 1))
        pairs.append(_measure_fastest(flow(one, other)))
        if on_pair is not None:
            on_pair(number + 1, len(chosen) - 1)
    return Motion(
        interval, tuple(pairs), choose_threshold(height, width), max(1, round(4 * len(chosen) / 16))
    )


def choose_threshold(height: int, width: int) -> float:
    """Above how many pixels a pair of frames counts as moving: 11.25 at 480 pixels."""
    return 6 * min(height, width) / 256


def _pad(picture: Tensor) -> Tensor:
    """[1, 3, H, W] with its edges repeated on both sides until H and W are multiples of 8."""
    rows, columns = (-length % 8 for length in picture.shape[-2:])
    sides = columns // 2, columns - columns // 2, rows // 2, rows - rows // 2
    return F.pad(picture, sides, mode="replicate")


def _measure_fastest(flow: Tensor) -> float:
    """The mean length of the largest 5 % of flow vectors [1, 2, H, W]; the padding's count, as in VBench."""
    lengths = flow[0].float().square().sum(0).sqrt().flatten()  # [H W]
    return float(lengths.topk(int(len(lengths) * FASTEST_SHARE)).values.mean())


class RaftThings:
    """RAFT trained on FlyingChairs and FlyingThings, as VBench runs it, in torchvision's port of it."""

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.network, self.device = network.eval().to(device), device

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> RaftThings:
        """Raises ModelFileMissing, WrongModelFile, or DependencyMissing without torchvision."""
        optical_flow = import_judge("torchvision", "DynamicDegree").models.optical_flow
        with torch.random.fork_rng(devices=[]):  # it draws random weights first
            network = optical_flow.raft_large(weights=None)
        return cls(fill(network, path, "RAFT-things"), device)

    @torch.inference_mode()
    def __call__(self, one: Tensor, other: Tensor) -> Tensor:
        """0..255, as VBench gives them; the port leaves the scaling to -1..1 to its caller, the original does not."""
        scaled = (2 * (picture.to(self.device) / 255) - 1 for picture in (one, other))
        flow: Tensor = self.network(*scaled, num_flow_updates=UPDATES)[-1]
        return flow.cpu()


def measure_flicker(frames: Frames) -> tuple[float, ...]:
    """Temporal flicker (VBench, temporal_flickering.py) of each pair of neighbours: (255 - MAE) / 255, 1 is none.

    The mean over the pairs is VBench's number. It only means flicker if the scene stands still: VBench measures it on
    prompts that ask for that. Raises InvalidRequest for one frame.
    """
    if len(frames) < 2:
        raise InvalidRequest("1 frame: flicker needs two")
    changes = (
        np.abs(one.astype(np.float32) - other.astype(np.float32)).mean(dtype=np.float64)
        for one, other in itertools.pairwise(frames)
    )
    return tuple((255 - float(change)) / 255 for change in changes)
