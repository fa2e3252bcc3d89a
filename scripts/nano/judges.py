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

from echovideo_model.files import replacing
from echovideo_model.nano import Clip
from echovideo_model.nano.actions import ACTIONS, CAMERAS
from echovideo_model.nano.palette import CLOTHES
from echovideo_model.nano.scenes import PLACES
from echovideo_model.nano.split import FIRST_HELD_OUT

MOMENTS, SIDE, BATCH, STEPS, WIDTH = 9, 96, 10, (400,), 96
QUESTIONS: dict[str, list[str]] = {
    "place": list(PLACES),
    "colour": list(CLOTHES),
    "camera": list(CAMERAS),
    "action": list(ACTIONS),
}


class Judges(nn.Module):
    """[B, 9, 3, 96, 96] in -1..1 -> logits of every answer, by question."""

    def __init__(self) -> None:
        super().__init__()
        self.see = nn.Sequential(  # each moment beside its difference to the one before
            Block(6, 24, 4, 2),
            Block(24, 40, 4, 2),
            Block(40, 40, skip=True),
            Block(40, 64, 4, 2),
            Block(64, 64, skip=True),
            Block(64, 96, 4, 2),
            Block(96, 16, 1),
            nn.Flatten(),
            nn.Linear(16 * 36, WIDTH),
        )
        self.follow = nn.Sequential(nn.ReLU(), nn.Linear(MOMENTS * WIDTH, 192), nn.ReLU())
        self.still = nn.ModuleDict(
            {name: nn.Linear(WIDTH, len(QUESTIONS[name])) for name in ("place", "colour")}
        )
        self.moving = nn.ModuleDict(
            {name: nn.Linear(192, len(QUESTIONS[name])) for name in ("camera", "action")}
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        change = torch.cat([torch.zeros_like(x[:, :1]), x[:, 1:] - x[:, :-1]], 1)
        seen = self.see(torch.cat([x, change], 2).flatten(0, 1)).unflatten(0, x.shape[:2])  # [B, 9, 96]
        followed = self.follow(seen.flatten(1))
        answers = {name: head(seen.mean(1)) for name, head in self.still.items()}
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


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(5)
    torch.set_num_threads(1)
    judges = Judges()

    def loss_of(step: int) -> dict[str, Tensor]:
        pixels, right = zip(*(_sample(step, i) for i in range(BATCH)), strict=True)
        answers = judges(torch.stack(pixels))
        return {
            name: F.cross_entropy(logits, torch.tensor([one[name] for one in right]))
            for name, logits in answers.items()
        }

    train("judges", judges, loss_of, args, 2e-3)
    args.models.mkdir(parents=True, exist_ok=True)
    with replacing(args.models / "judges.pt") as temporary:
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
