"""What a video needs with the released weights: memory and arithmetic, computed from their sizes.

    python -m benchmarks.memory

Nothing is allocated: the networks run on PyTorch's meta device, where the bytes of every tensor count for as long as it
lives. Attention counts as its result, as the fused kernels of a GPU leave nothing else. What a device itself takes (its
context, its kernels' workspace, gaps between tensors) comes on top.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.cpu import attention_flop
from echovideo_model.limits import TRAINED_FRAMES
from echovideo_model.request import latent_shape
from echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes
from echovideo_model.weights.loading import STORAGE, count_stored_bytes, storage_dtype
from echovideo_model.weights.released import TABLE

SIZES = (848, 480), (640, 480), (480, 480)  # width and height
COGVIDEOX = 720, 480
WEIGHTS = ("bf16", "fp8_e4m3fn")
RUN = 2 * 50  # both branches of 50 steps


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of what operations make, as long as it lives."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = operation(*args, **(kwargs or {}))
        given = {storage._cdata for storage in _list_storages((args, kwargs))}  # a view has its argument's
        for storage in _list_storages(results):
            if storage._cdata not in given:
                self._count(storage)
        return results

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self._known.remove(key)
        self.now -= size


def _list_storages(values: Any) -> list[torch.UntypedStorage]:
    return [value.untyped_storage() for value in tree_leaves(values) if isinstance(value, Tensor)]


class FusedAttention:
    """Stands for a fused kernel: its result alone, and the number of its operations."""

    def __init__(self) -> None:
        self.operations = 0

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, tokens, width = q.shape
        self.operations += attention_flop(q.shape, k.shape)
        return q.new_empty(batch, tokens, heads * width)


@contextmanager
def _on_meta() -> Iterator[None]:
    with torch.device("meta"), torch.no_grad():
        yield


@cache
def count_weights(dtype: str) -> int:
    """Bytes of the transformer's weights, stored as `dtype`."""
    with _on_meta():
        return count_stored_bytes(EchoVideoTransformer(TransformerSizes()), STORAGE[dtype])


def count_sampling(width: int, height: int, dtype: str) -> int:
    """Bytes of the transformer's weights, stored as `dtype`, and at the peak of one step, both branches at once."""
    with _on_meta():
        # Blocks follow one another and leave nothing behind: two of them have the peak of 42.
        network = EchoVideoTransformer(replace(TransformerSizes(), blocks=2), dtype=torch.bfloat16)
        for name, parameter in network.named_parameters():
            parameter.data = parameter.to(storage_dtype(name, STORAGE[dtype]))
        inputs = _draw_inputs(2, width, height)
        with LiveBytes() as live:
            network(*inputs, FusedAttention())
    return count_weights(dtype) + live.peak


def count_decoding(width: int, height: int) -> int:
    """Bytes of the VAE and at the peak of decoding, float16, untiled."""
    with _on_meta():
        vae = CogVideoXVAE(VAESizes()).half()
        latents = torch.empty(latent_shape(TRAINED_FRAMES, height, width), dtype=torch.float16)
        with LiveBytes() as live:
            vae.decode(latents)
    return live.peak + sum(parameter.nbytes for parameter in vae.parameters())


def count_operations(width: int, height: int) -> int:
    """Floating-point operations of one forward of one branch; a product's multiplications and additions count."""
    attention = FusedAttention()
    with _on_meta(), FlopCounterMode(display=False) as counter:
        network = EchoVideoTransformer(TransformerSizes(), dtype=torch.bfloat16)
        network(*_draw_inputs(1, width, height), attention)
    return counter.get_total_flops() + attention.operations


def count_released(*groups: str) -> int:
    """Bytes of the released files of these groups whose sizes are published."""
    return sum(file.size or 0 for file in TABLE if file.group in groups)


def _draw_inputs(batch: int, width: int, height: int) -> tuple[Tensor, ...]:
    iitf = TransformerSizes().iitf
    latents = torch.empty(latent_shape(TRAINED_FRAMES, height, width, batch), dtype=torch.bfloat16)
    context = torch.empty(batch, iitf.text_tokens, iitf.text_width, dtype=torch.bfloat16)
    return latents, torch.empty(batch, dtype=torch.int64), context, latents[:, :, :1]


def print_tables() -> None:
    weights = [count_weights(dtype) for dtype in WEIGHTS]
    print(
        f"| GB, {TRAINED_FRAMES} frames | {' | '.join(WEIGHTS)} | decoding, untiled | operations of 50 steps |"
    )
    print("|---|---|---|---|---|")
    for size in SIZES:
        sampling = " | ".join(f"{count_sampling(*size, dtype) / 1e9:.1f}" for dtype in WEIGHTS)
        operations = f"{RUN * count_operations(*size) / 1e15:.0f} x 10^15"
        print(f"| {size[0]} x {size[1]} | {sampling} | {count_decoding(*size) / 1e9:.1f} | {operations} |")
    others = count_released("text_encoder", "vae", "clip_visual_encoder", "face_encoder")
    print(f"\nThe text encoder takes {count_released('text_encoder') / 1e9:.1f} GB in bf16.")
    print(f"All weights together: {', '.join(f'{(stored + others) / 1e9:.1f} GB' for stored in weights)}.")
    operations = RUN * count_operations(*COGVIDEOX) / 1e15
    print(f"{COGVIDEOX[0]} x {COGVIDEOX[1]}, CogVideoX's size: {operations:.0f} x 10^15 operations.")


if __name__ == "__main__":
    print_tables()
