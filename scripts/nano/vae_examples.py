"""What the nano autoencoder learns from and is judged by: pictures of the drawn world, every step its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from echovideo_model.face.parse import NOT_FACE
from echovideo_model.nano import Clip, Person, Pose, draw_portrait
from echovideo_model.nano.clip import FRAMES, SIDE
from echovideo_model.nano.split import FIRST_HELD_OUT, held_out_people

CROPS = ((9, 48), (17, 32))  # frames and side of the crops, in turn; about the same number of pixels
NEARLY_WHOLE = (5, 96)
STILL_SIDE = 64
STILLS = 3
FACES = 1  # of these: faces on black, as the identity's are
CLIPS = 2  # with one, PyTorch on one thread convolves without oneDNN, at a third of the speed


def draw_batches(seed: int, step: int, progress: float) -> list[Tensor]:
    """The step's pixels [B, 3, T, H, W] in -1..1: crops of clips and of single frames; towards the end of training
    (progress 0..1) more and more often almost whole pictures, whose norms see what they will see in use."""
    rng = np.random.default_rng([seed, step])
    if rng.random() < 0.4 * progress**2:
        return [torch.stack([_draw(rng, *NEARLY_WHOLE) for _ in range(CLIPS)]), _draw_stills(rng, SIDE)]
    frames, side = CROPS[step % len(CROPS)]
    clips = torch.stack([_draw(rng, frames, side) for _ in range(CLIPS)])
    return [clips, _draw_stills(rng, STILL_SIDE)]


def draw_whole(seed: int, count: int) -> Tensor:
    """Whole clips of training people [B, 3, 9, 128, 128]: for the initialisation."""
    rng = np.random.default_rng(seed)
    return torch.stack([_draw(rng, 9, SIDE) for _ in range(count)])


def draw_held_out(count: int) -> Tensor:
    """Clips of people whom training never sees [B, 3, 17, 128, 128]."""
    clips = (Clip.from_seed(index, person=person) for index, person in enumerate(held_out_people(count)))
    return torch.stack([to_pixels(clip.frames()) for clip in clips])


def to_pixels(frames: np.ndarray) -> Tensor:
    """uint8 [T, H, W, 3] -> float32 [3, T, H, W] in -1..1."""
    return rearrange(torch.from_numpy(frames).float() / 127.5 - 1, "t h w c -> c t h w")


def _draw_stills(rng: np.random.Generator, side: int) -> Tensor:
    stills = [_draw(rng, 1, side) for _ in range(STILLS - FACES)]
    return torch.stack(stills + [_draw_face(rng, side) for _ in range(FACES)])


def _draw(rng: np.random.Generator, frames: int, side: int) -> Tensor:
    """A random square out of successive frames of a clip, [3, T, side, side]."""
    clip = Clip.from_seed(int(rng.integers(2**40)))
    start = int(rng.integers(FRAMES - frames + 1))
    return _crop(rng, replace(clip, moments=clip.moments[start : start + frames]).frames(), side)


def _draw_face(rng: np.random.Generator, side: int) -> Tensor:
    """A random square out of a large face on black, [3, 1, side, side]."""
    person = Person.from_seed(int(rng.integers(FIRST_HELD_OUT)))
    pose = Pose(yaw=rng.uniform(-20, 20), pitch=rng.uniform(-10, 10), smile=rng.uniform(0, 1))
    picture, truth = draw_portrait(person, (SIDE, SIDE), pose, unit=rng.uniform(0.26, 0.38))
    picture[np.isin(truth.classes, NOT_FACE)] = 0
    return _crop(rng, picture[None], side)


def _crop(rng: np.random.Generator, frames: np.ndarray, side: int) -> Tensor:
    pixels = to_pixels(frames)
    top, left = (int(rng.integers(SIDE - side + 1)) for _ in range(2))
    return pixels[:, :, top : top + side, left : left + side].contiguous()
