"""Examples: clips as the network sees them, encoded once and kept in one .safetensors each; and their order.

A file holds N takes (a latent clip and its caption) of one person and M identities of that person, each seen at
another moment than the takes. `echovideo prepare` makes one take a clip; any take may meet any identity.

| tensor | shape | what |
|---|---|---|
| mean, deviation | [N, 16, t, h, w] float16 | the VAE's posterior of the clip, without the scale of 0.7 |
| text | [N, n, width] bfloat16 | T5's tokens of the caption |
| face_mean, face_deviation | [M, 16, 1, h, w] float16 | the VAE's posterior of the padded face picture |
| face_tokens | [M, 196, 768] bfloat16 | SigLIP's view of the face picture |
| id_embedding | [M, 512] float32 | ArcFace's, not normalised |

The captions themselves are in the header, as a JSON list. What stands for nobody and for no words is the same for
all examples: EMPTY holds `text` [n, width] of the empty prompt, and SigLIP's `face_tokens` [196, 768] of a black
picture.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import InvalidRequest
from ..files import write_atomically

EMPTY = "empty.safetensors"
DTYPES = {
    "mean": torch.float16,
    "deviation": torch.float16,
    "text": torch.bfloat16,
    "face_mean": torch.float16,
    "face_deviation": torch.float16,
    "face_tokens": torch.bfloat16,
    "id_embedding": torch.float32,
}
PER_TAKE = ("mean", "deviation", "text")
PER_IDENTITY = ("face_mean", "face_deviation", "face_tokens", "id_embedding")


class Sample(NamedTuple):
    """One take with one identity of its person; shapes as in the table above, without N and M."""

    mean: Tensor
    deviation: Tensor
    text: Tensor
    face_mean: Tensor
    face_deviation: Tensor
    face_tokens: Tensor
    id_embedding: Tensor
    caption: str


class Empty(NamedTuple):
    """Nobody and no words: text [n, width], face_tokens [196, 768]."""

    text: Tensor
    face_tokens: Tensor


@dataclass(frozen=True)
class _File:
    """What the header of an example says."""

    path: Path
    captions: tuple[str, ...]
    identities: int
    latent: tuple[int, ...]  # t, h, w


class Examples:
    """The examples in a folder and its subfolders, in the order of their names; headers are read, tensors not yet."""

    def __init__(self, folder: str | Path) -> None:
        """Raises InvalidRequest if there is none, or for the first file that is not a whole example."""
        self.folder = Path(folder)
        paths = sorted(path for path in self.folder.rglob("*.safetensors") if path.name != EMPTY)
        self.files = [_read_header(path) for path in paths if not path.name.startswith(".")]
        if not self.files:
            raise InvalidRequest(f"no examples in {folder}: make them from clips with `echovideo prepare`")
        self.empty = _read_empty(self.folder / EMPTY)
        self.takes = [
            (number, take) for number, file in enumerate(self.files) for take in range(len(file.captions))
        ]

    def __len__(self) -> int:
        """The number of takes."""
        return len(self.takes)

    def latent_shape(self, number: int) -> tuple[int, ...]:
        """t, h, w of a take."""
        return self.files[self.takes[number][0]].latent

    def read(self, number: int, generator: torch.Generator) -> Sample:
        """Take `number` with an identity that the generator chooses among those of its person."""
        which, take = self.takes[number]
        file = self.files[which]
        identity = int(torch.randint(file.identities, (), generator=generator))
        try:
            with safe_open(file.path, "pt") as opened:

                def row(name: str, index: int) -> Tensor:
                    return opened.get_slice(name)[index]

                mean, deviation, text = (row(name, take) for name in PER_TAKE)
                person = {name: row(name, identity) for name in PER_IDENTITY}
                return Sample(mean, deviation, text, caption=file.captions[take], **person)
        except (SafetensorError, OSError) as error:
            raise _broken(file.path, str(error)) from error


class Order:
    """Which takes make up the global batch of a step: a function of (seed, step) alone.

    Every take is seen once an epoch. A batch holds takes of one latent shape; if their number is not a multiple of
    the batch, the first ones of the epoch fill the last batch up.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]], batch: int, seed: int) -> None:
        self.batch, self.seed = batch, seed
        self.buckets: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, shape in enumerate(shapes):
            self.buckets[shape].append(number)
        self.batches_per_epoch = sum(-(-len(bucket) // batch) for bucket in self.buckets.values())
        self._epoch = lru_cache(maxsize=1)(self._shuffle)

    def at(self, step: int) -> list[int]:
        """The takes of step 0, 1, ..."""
        epoch, position = divmod(step, self.batches_per_epoch)
        return self._epoch(epoch)[position]

    def _shuffle(self, epoch: int) -> list[list[int]]:
        random = generator(self.seed, "epoch", epoch)
        batches = []
        for bucket in self.buckets.values():
            order = torch.randperm(len(bucket), generator=random).tolist()
            order += [order[i % len(order)] for i in range(-len(order) % self.batch)]
            batches += [
                [bucket[index] for index in order[start : start + self.batch]]
                for start in range(0, len(order), self.batch)
            ]
        return [batches[index] for index in torch.randperm(len(batches), generator=random).tolist()]


def generator(seed: int, *where: object) -> torch.Generator:
    """A generator on the CPU whose numbers follow from the seed and from where in the run they are drawn."""
    digest = hashlib.sha256(repr((seed, *where)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def write_example(path: Path, tensors: Mapping[str, Tensor], captions: Sequence[str]) -> None:
    """Writes a file of the table above, whole or not at all, in the dtypes given there.

    Raises InvalidRequest for what pack_example refuses, and if nothing can be written there.
    """
    content = pack_example(tensors, captions)
    with write_atomically(path) as temporary:
        temporary.write_bytes(content)


def pack_example(tensors: Mapping[str, Tensor], captions: Sequence[str]) -> bytes:
    """The content of the file. Raises InvalidRequest if a value is NaN, infinite or too large for its dtype."""
    kept = {name: tensor.to(DTYPES[name]).contiguous() for name, tensor in tensors.items()}
    for name, tensor in kept.items():
        if not tensor.isfinite().all():
            raise InvalidRequest(
                f"its {name} holds NaN or infinity: choose another clip, or check the models"
            )
    return save(kept, {"captions": json.dumps(list(captions))})


def read_captions(path: Path) -> tuple[str, ...]:
    """The captions of an example. Raises InvalidRequest if it is not a whole one."""
    return _read_header(path).captions


def write_empty(folder: Path, text: Tensor, face_tokens: Tensor) -> None:
    """Writes EMPTY. text: T5's tokens [n, width] of the empty prompt; face_tokens [196, 768]."""
    write_example(folder / EMPTY, {"text": text, "face_tokens": face_tokens}, [])


def _read_header(path: Path) -> _File:
    try:
        with safe_open(path, "pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            captions = tuple(json.loads((opened.metadata() or {}).get("captions", "[]")))
    except (SafetensorError, OSError, ValueError) as error:
        raise _broken(path, str(error).partition("\n")[0]) from error
    wanted = (*PER_TAKE, *PER_IDENTITY)
    if missing := [name for name in wanted if name not in shapes]:
        raise _broken(path, f"{missing[0]} is missing")
    takes, identities = shapes["mean"][0], shapes["id_embedding"][0]
    if not len(captions) == takes == shapes["text"][0] or not takes or not identities:
        raise _broken(path, f"it has {takes} takes, {len(captions)} captions and {identities} identities")
    return _File(path, captions, identities, shapes["mean"][2:])


def _read_empty(path: Path) -> Empty:
    try:
        with safe_open(path, "pt") as opened:
            return Empty(opened.get_tensor("text"), opened.get_tensor("face_tokens"))
    except (SafetensorError, OSError) as error:
        raise _broken(path, str(error).partition("\n")[0]) from error


def _broken(path: Path, reason: str) -> InvalidRequest:
    return InvalidRequest(f"{path} is not a complete example ({reason}): delete it and prepare it again")


__all__ = [
    "EMPTY",
    "Empty",
    "Examples",
    "Order",
    "Sample",
    "generator",
    "pack_example",
    "read_captions",
    "write_empty",
    "write_example",
]
