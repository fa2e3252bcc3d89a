"""Trains the drawn world's face detector and writes it with SCRFD's inputs and outputs.

    python scripts/nano/train_detector.py --state STATE --models MODELS

A feature pyramid of 0.3 million parameters. Pictures of 320 x 320 hold no, one or two faces of 28 to 300 pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from convolutions import Block, half, write_conv
from loop import arguments, train
from pictures import FLIPPED, picture_of, random_person, random_scene, with_light
from torch import Tensor, nn

from echovideo_model.face.detect import DETECTOR
from echovideo_model.files import write_atomically
from echovideo_model.tiny.graph import Graph

SIDE, BATCH, STEPS = 320, 8, (1500, 2700, 1800)
STRIDES, ANCHORS = (8, 16, 32), 2
SIZES = np.array(
    [[36, 60], [90, 130], [190, 280]], np.float32
)  # a face's usual width at each stride and anchor
WIDTH = 40  # of the pyramid


class Detector(nn.Module):
    """[B, 3, H, W] in (x - 127.5) / 128 -> for each stride [B, 30, H / s, W / s]: 2 x (score, box 4, landmarks 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(Block(3, 24, 6, 4), Block(24, 24, skip=True))  # 1/4
        self.down = nn.ModuleList(
            [
                nn.Sequential(Block(24, 40, 4, 2), Block(40, 40, skip=True)),
                nn.Sequential(Block(40, 56, 4, 2), Block(56, 56, skip=True)),
                nn.Sequential(Block(56, 72, 4, 2), Block(72, 72, skip=True), Block(72, 72, skip=True)),
            ]
        )
        self.across = nn.ModuleList(Block(width, WIDTH, 1) for width in (40, 56, 72))
        self.merge = nn.ModuleList(Block(WIDTH, WIDTH, skip=True) for _ in STRIDES)
        self.head = nn.ModuleList(nn.Conv2d(WIDTH, ANCHORS * 15, 1) for _ in STRIDES)
        for head in self.head:
            nn.init.normal_(head.weight, std=0.01)
            with torch.no_grad():
                head.bias.zero_()
                head.bias[[0, 15]] = -4.0

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        levels = []
        for down, across in zip(self.down, self.across, strict=True):
            x = down(x)
            levels.append(across(x))
        for i in (1, 0):
            levels[i] = levels[i] + F.interpolate(levels[i + 1], scale_factor=2)
        return [head(merge(level)) for level, merge, head in zip(levels, self.merge, self.head, strict=True)]

    def file(self) -> bytes:
        """SCRFD's nine outputs for a picture of any size that 32 divides."""
        graph = Graph()
        x = "input"
        for block in self.stem:
            x = block.write(graph, x)
        levels = []
        for down, across in zip(self.down, self.across, strict=True):
            for block in down:
                x = block.write(graph, x)
            levels.append(across.write(graph, x))
        for i in (1, 0):
            nearest = {
                "mode": "nearest",
                "coordinate_transformation_mode": "asymmetric",
                "nearest_mode": "floor",
            }
            larger = graph.add(
                "Resize",
                levels[i + 1],
                np.zeros(0, np.float32),
                np.array([1, 1, 2, 2], np.float32),
                **nearest,
            )
            levels[i] = graph.add("Add", levels[i], larger)
        for level, stride in enumerate(STRIDES):
            x = self.merge[level].write(graph, levels[level])
            x = write_conv(graph, x, self.head[level].weight, self.head[level].bias)
            x = graph.add("Transpose", x, perm=[0, 2, 3, 1])  # [1, h, w, 30]
            x = graph.add("Reshape", x, np.array([-1, 15]))  # [h w 2, 15]
            score, box, points = (
                graph.add("Gather", x, np.arange(start, stop), axis=1)
                for start, stop in ((0, 1), (1, 5), (5, 15))
            )
            scale = half(graph, torch.tensor(SIZES[level] / stride)[:, None])  # [2, 1]
            graph.add("Sigmoid", score, output=f"score_{stride}")
            for name, value, wide in (("bbox", graph.add("Softplus", box), 4), ("kps", points, 10)):
                pairs = graph.add("Reshape", value, np.array([-1, ANCHORS, wide]))
                scaled = graph.add("Mul", pairs, scale)
                graph.add("Reshape", scaled, np.array([-1, wide]), output=f"{name}_{stride}")
        outputs = {
            f"{kind}_{stride}": (f"anchors_{stride}", wide)
            for kind, wide in (("score", 1), ("bbox", 4), ("kps", 10))
            for stride in STRIDES
        }
        return graph.model({"input": (1, 3, "height", "width")}, outputs)


def sample(rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """uint8 [SIDE, SIDE, 3] and of each face [7, 2]: the box's corners, then the landmarks."""
    kind = rng.random()
    if kind < 0.2:
        return _nobody(rng), []
    if kind < 0.34:
        halves = [_one(rng, SIDE // 2, SIDE) for _ in range(2)]
        halves[1] = halves[1][0], [face + np.array([SIDE // 2, 0]) for face in halves[1][1]]
        return np.concatenate([half[0] for half in halves], 1), halves[0][1] + halves[1][1]
    return _one(rng, SIDE, SIDE)


def _one(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A picture at its own resolution, somewhere in the frame or filling it."""
    own = int(rng.choice((96, 128, 160, 224)))
    picture, truth = picture_of(rng, random_person(rng), own, 0.5 * rng.uniform(0.28, 0.5), at=0.14)
    face = np.concatenate([truth.box.reshape(2, 2), truth.landmarks])
    if rng.random() < 0.5:
        picture, face = picture[:, ::-1], (own - 1 - face[:, 0], face[:, 1])
        face = np.stack(face, 1)
        face = np.concatenate([[(face[1, 0], face[0, 1]), (face[0, 0], face[1, 1])], face[2:][FLIPPED]])
    size, middle = float(np.ptp(face[:2, 0])), face[2:].mean(0)
    if rng.random() < 0.4:  # the whole picture, smaller than the frame
        scale = min(width, height) / own * rng.uniform(0.3, 1.0)
        left, top = rng.uniform(0, width - own * scale), rng.uniform(0, height - own * scale)
    else:  # the face fills much of the frame
        scale = min(width, height) * rng.uniform(0.3, 1.02) / max(size, 0.25 * own)
        left, top = np.array([width, height]) * rng.uniform(0.36, 0.64, 2) - middle * scale
    half = (scale - 1) / 2  # as cv2.resize does, pixels are squares, not points
    matrix = np.array([[scale, 0, left + half], [0, scale, top + half]])
    wall = tuple(int(v) for v in rng.integers(0, 256, 3)) if rng.random() < 0.7 else (0, 0, 0)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    frame = cv2.warpAffine(picture, matrix, (width, height), flags=method, borderValue=wall)
    face = face * scale + (left, top)
    middle = face[2:].mean(0)
    seen = (middle > 0).all() and middle[0] < width and middle[1] < height
    return with_light(rng, frame), [face] if seen else []


def _nobody(rng: np.random.Generator) -> np.ndarray:
    """A place, noise, a gradient, or somebody's body without the head."""
    kind = rng.random()
    if kind < 0.6:
        picture = _small_scene(rng)
    elif kind < 0.7:
        cells = int(rng.choice((8, 20, 40, 80)))
        picture = rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    elif kind < 0.78:
        picture = np.linspace(rng.integers(0, 256, 3), rng.integers(0, 256, 3), 64)[:, None].repeat(64, 1)
        picture = picture.astype(np.uint8)
    else:
        picture, truth = picture_of(rng, random_person(rng), 128, 0.2)
        if rng.random() < 0.5:
            top = min(int(truth.box[3]) + 6, 100)
            picture = picture[top:]
        else:
            picture = (
                picture[::-1]
                if rng.random() < 0.5
                else picture[: max(int(truth.landmarks[:2, 1].min()) - 14, 8)]
            )
    return with_light(
        rng, cv2.resize(np.ascontiguousarray(picture), (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    )


def _small_scene(rng: np.random.Generator) -> np.ndarray:
    """A place at a clip's resolution, or a part of it: enlarged as far as the detector's largest size enlarges one."""
    size = int(rng.choice((96, 128, 160)))
    scene = cv2.resize(random_scene(rng, size), (size, size), interpolation=cv2.INTER_AREA)
    side = round(size * rng.uniform(0.4, 1))
    top, left = rng.integers(0, size - side + 1, 2)
    return scene[top : top + side, left : left + side]


def targets(faces: list[list[np.ndarray]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For each stride: wanted score [B, 2, h, w] (-1 where it does not matter) and values [B, 2, 14, h, w] in SIZES."""
    wanted = []
    for level, stride in enumerate(STRIDES):
        side = SIDE // stride
        score = np.zeros((len(faces), ANCHORS, side, side), np.float32)
        value = np.zeros((len(faces), ANCHORS, 14, side, side), np.float32)
        corner = np.arange(side) * stride
        places = np.stack(np.meshgrid(corner, corner), 0).astype(np.float32)  # [2, h, w]: x, y
        for b, in_picture in enumerate(faces):
            for face in in_picture:
                size, middle = float(np.ptp(face[:2, 0])), face[2:].mean(0)
                away = np.abs(places - middle[:, None, None]).max(0)
                for anchor in range(ANCHORS):
                    off = abs(np.log2(size / SIZES[level, anchor]))
                    best = off <= np.abs(np.log2(size / SIZES)).min() + 1e-6
                    near = away < (1.0 if best else 2.0) * stride
                    usual = SIZES[level, anchor]
                    if best:
                        score[b, anchor][(away < 2.2 * stride) & (score[b, anchor] == 0)] = -1
                        score[b, anchor][near] = 1
                        offsets = (face[:, :, None, None] - places) / usual  # [7, 2, h, w]
                        box = [-offsets[0, 0], -offsets[0, 1], offsets[1, 0], offsets[1, 1]]
                        full = np.concatenate([np.stack(box), offsets[2:].reshape(10, side, side)])
                        value[b, anchor][:, near] = full[:, near]
                    elif off < 0.75:
                        score[b, anchor][near & (score[b, anchor] == 0)] = -1
        wanted.append((torch.from_numpy(score), torch.from_numpy(value)))
    return wanted


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(1)
    torch.set_num_threads(1)
    network = Detector()

    def loss_of(step: int) -> dict[str, Tensor]:
        samples = [sample(np.random.default_rng([0xDE7, step, i])) for i in range(BATCH)]
        pixels = torch.from_numpy(np.stack([picture for picture, _ in samples])).permute(0, 3, 1, 2)
        outputs = network((pixels.float() - 127.5) / 128)
        score_loss, value_loss, count = pixels.new_zeros(()).float(), pixels.new_zeros(()).float(), 0
        for output, (score, value) in zip(outputs, targets([faces for _, faces in samples]), strict=True):
            output = output.unflatten(1, (ANCHORS, 15))  # [B, 2, 15, h, w]
            logit = output[:, :, 0]
            error = F.binary_cross_entropy_with_logits(logit, score.clamp(min=0), reduction="none")
            focus = (logit.sigmoid() - score).abs() ** 2
            score_loss = score_loss + (error * focus * (score >= 0)).sum()
            there = score == 1
            count += int(there.sum())
            got = torch.cat([F.softplus(output[:, :, 1:5]), output[:, :, 5:]], 2).movedim(2, -1)[there]
            aim = value.movedim(2, -1)[there]
            weight = torch.tensor([1.0] * 4 + [3.0] * 10)
            value_loss = value_loss + (F.smooth_l1_loss(got, aim, reduction="none", beta=0.01) * weight).sum()
        return {"score": score_loss / max(count, 1) * 4, "value": value_loss / max(count, 1)}

    train("detector", network, loss_of, args, 3e-3)
    path = args.models / "face_encoder" / "models" / "antelopev2" / DETECTOR
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_bytes(network.file())


if __name__ == "__main__":
    main()
