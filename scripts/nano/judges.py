"""Trains judges of what a clip shows: place, clothing colour, camera and action. They are not shipped.

    python scripts/nano/judges.py --state STATE --models MODELS

Writes MODELS/judges.pt and prints how often each is right on real clips of held-out people in held-out combinations
of words. `Judges.load(path).verdicts(frames)` judges any clip of frames, uint8 [F, H, W, 3].
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from convolutions import Block
from loop import arguments, train
from torch import Tensor, nn
from tqdm import tqdm

from echovideo_model.files import write_atomically
from echovideo_model.nano import Clip
from echovideo_model.nano.clip import LABELS
from echovideo_model.nano.split import FIRST_HELD_OUT

MOMENTS, SIDE, BATCH, STEPS = 9, 96, 10, (500,)
QUESTIONS = {name: LABELS[name] for name in ("place", "colour", "camera", "action")}


class Judges(nn.Module):
    """[B, 9, 3, 96, 96] in -1..1 -> logits of every answer, by question.

    Place and colour are told from the middle moment; camera and action from all moments in grey, as the channels of
    one picture, less their mean: what moves is all that is left.
    """

    def __init__(self) -> None:
        super().__init__()
        self.look = nn.Sequential(
            Block(3, 24, 4, 2), Block(24, 32, 4, 2), Block(32, 48, 4, 2), Block(48, 16, 4, 2), nn.Flatten()
        )
        self.still = nn.ModuleDict(
            {name: nn.Linear(16 * 36, len(QUESTIONS[name])) for name in ("place", "colour")}
        )
        self.follow = nn.Sequential(
            Block(MOMENTS, 48, 4, 2),
            Block(48, 64, 4, 2),
            Block(64, 64, skip=True),
            Block(64, 96, 4, 2),
            Block(96, 96, skip=True),
            Block(96, 128, 4, 2),
            Block(128, 128, skip=True),
            Block(128, 32, 1),
            nn.Flatten(),
            nn.Linear(32 * 36, 192),
            nn.ReLU(),
        )
        self.moving = nn.ModuleDict(
            {name: nn.Linear(192, len(QUESTIONS[name])) for name in ("camera", "action")}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        grey = x.mean(2)  # [B, 9, 96, 96]
        followed, seen = self.follow(4 * (grey - grey.mean(1, keepdim=True))), self.look(x[:, MOMENTS // 2])
        answers = {name: head(seen) for name, head in self.still.items()}
        return answers | {name: head(followed) for name, head in self.moving.items()}

    @classmethod
    def load(cls, path: str | Path) -> Judges:
        judges = cls()
        judges.load_state_dict(torch.load(path, weights_only=True))
        return judges.eval()

    @torch.no_grad()
    def verdicts(self, frames: np.ndarray) -> dict[str, str]:
        """The likeliest answer to each question about a clip, uint8 [F, H, W, 3] of five frames or more."""
        answers = self(_pixels(frames)[None])
        return {name: QUESTIONS[name][int(logits.argmax())] for name, logits in answers.items()}


def _pixels(frames: np.ndarray) -> Tensor:
    """float32 [9, 3, 96, 96] of evenly spread moments."""
    chosen = frames[np.rint(np.linspace(0, len(frames) - 1, MOMENTS)).astype(int)]
    small = np.stack([cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for frame in chosen])
    return torch.from_numpy(small).permute(0, 3, 1, 2) / 127.5 - 1


def _sample(step: int, i: int) -> tuple[Tensor, dict[str, int]]:
    """A training clip, some of them as blurred and noisy as a small model's."""
    rng = np.random.default_rng([0x10D6E, step, i])
    clip = Clip.from_seed(int(rng.integers(2**31)), frames=MOMENTS, height=SIDE, width=SIDE)
    pixels = _pixels(clip.frames())
    if rng.random() < 0.5:
        size = int(rng.integers(40, SIDE))
        pixels = F.interpolate(F.interpolate(pixels, size, mode="area"), SIDE, mode="bilinear")
        pixels = pixels + torch.from_numpy(
            rng.normal(0, rng.uniform(0, 0.05), pixels.shape).astype(np.float32)
        )
    return pixels, {name: answers.index(str(clip.labels[name])) for name, answers in QUESTIONS.items()}


def _mirrored(sample: tuple[Tensor, dict[str, int]]) -> tuple[Tensor, dict[str, int]]:
    pixels, right = sample
    camera = QUESTIONS["camera"][right["camera"]]
    other = {"pan left": "pan right", "pan right": "pan left"}.get(camera, camera)
    return pixels.flip(3), right | {"camera": QUESTIONS["camera"].index(other)}


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    judges = Judges()

    def loss_of(step: int) -> dict[str, Tensor]:
        samples = [_sample(step, i) for i in range(BATCH)]
        pixels, right = zip(*samples, *map(_mirrored, samples), strict=True)
        answers = judges(torch.stack(pixels))
        return {
            name: F.cross_entropy(logits, torch.tensor([one[name] for one in right]))
            for name, logits in answers.items()
        }

    train("judges", judges, loss_of, args, 2e-3)
    args.models.mkdir(parents=True, exist_ok=True)
    with write_atomically(args.models / "judges.pt") as temporary:
        torch.save(judges.state_dict(), temporary)
    measure(judges)


def measure(judges: Judges, count: int = 300) -> None:
    """Prints the share of right verdicts on real clips of held-out people and combinations."""
    right: dict[str, list[bool]] = {name: [] for name in QUESTIONS}
    for number in tqdm(range(count), "real clips"):
        clip = Clip.from_seed(10**6 + number, person=FIRST_HELD_OUT + number, held_out_words=True)
        for name, answer in judges.verdicts(clip.frames()).items():
            right[name].append(answer == clip.labels[name])
    for name, verdicts in right.items():
        print(f"judge of the {name}, right on {count} held-out real clips: {np.mean(verdicts):.3f}")


if __name__ == "__main__":
    main()
