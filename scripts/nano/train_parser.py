"""Trains the drawn world's face parser, a BiSeNet an eighth as wide as the released one.

    python scripts/nano/train_parser.py --state STATE --models MODELS

Faces are aligned as the pipeline aligns them, by landmarks as far off as the detector's; the wanted classes are those
that were drawn.
"""

from __future__ import annotations

import os

# PyTorch 2.13's backward pass writes beyond its memory here with oneDNN's AVX-512 kernels (seen on an AMD EPYC).
os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from loop import arguments, train
from pictures import as_detected, picture_of, random_person, with_light
from torch import Tensor

from echovideo_model.face.align import FACE_SIZE, LANDMARKS
from echovideo_model.face.parse import CLASSES, NOT_FACE, BiSeNet
from echovideo_model.files import write_atomically

WIDTH, BATCH, STEPS = 8, 4, (4000,)
CELL = 8  # the network decides for cells of 8 x 8
MEAN, DEVIATION = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # ImageNet's


def sample(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Aligned picture, uint8 [512, 512, 3], and the class of each cell's middle, uint8 [64, 64]."""
    size = int(rng.choice((96, 128, 160, 256)))
    picture, truth = picture_of(rng, random_person(rng), size, 0.5 * rng.uniform(0.36, 0.5))
    landmarks = as_detected(rng, truth.landmarks).astype(np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(landmarks, LANDMARKS, method=cv2.LMEDS)
    side = (FACE_SIZE, FACE_SIZE)
    aligned = cv2.warpAffine(with_light(rng, picture), matrix, side, flags=cv2.INTER_LINEAR)
    classes = cv2.warpAffine(truth.classes, matrix, side, flags=cv2.INTER_NEAREST)
    return aligned, classes[CELL // 2 :: CELL, CELL // 2 :: CELL]


def main() -> None:
    args = arguments(__doc__, STEPS)
    torch.manual_seed(3)
    torch.set_num_threads(1)
    network = BiSeNet(WIDTH)
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, DEVIATION))

    def loss_of(step: int) -> dict[str, Tensor]:
        samples = [sample(np.random.default_rng([0xB15E, step, i])) for i in range(BATCH)]
        pixels = torch.from_numpy(np.stack([picture for picture, _ in samples])).permute(0, 3, 1, 2)
        classes = torch.from_numpy(np.stack([classes for _, classes in samples])).long()
        inputs = (pixels / 255 - mean) / deviation
        logits = network.conv_out(network.ffm(*network.cp(inputs)))  # [B, 19, 64, 64]
        gone = torch.tensor(NOT_FACE)
        here = torch.tensor([name for name in range(CLASSES) if name not in NOT_FACE])
        kept = logits[:, here].logsumexp(1) - logits[:, gone].logsumexp(1)
        face = torch.isin(classes, here).float()
        return {
            "classes": F.cross_entropy(logits, classes),
            "face": F.binary_cross_entropy_with_logits(kept, face),
        }

    train("parser", network, loss_of, args, 5e-3)
    path = args.models / "face_encoder" / "parsing_bisenet.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.half() if value.is_floating_point() else value
        for name, value in network.state_dict().items()
    }
    with write_atomically(path) as temporary:
        torch.save(state, temporary)


if __name__ == "__main__":
    main()
