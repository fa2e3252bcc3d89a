"""How much memory a step takes, computed from sizes; nothing is allocated or measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from ..errors import InvalidRequest
from ..rotary import rotary_table
from ..transformer import EchoVideoTransformer, TransformerSizes
from ..weights.family import TRANSFORMER, open_family
from ..weights.loading import STORAGE, count_stored_bytes
from .examples import Examples
from .lora import LoRALayers
from .recipe import LoRA, Recipe
from .trained import DTYPES

GRADIENT, MOMENTS, AVERAGE = 4, 8, 4  # bytes of each trained parameter, in float32


def estimate_memory(recipe: Recipe) -> dict[str, int]:
    """Bytes of each part for the recipe's largest examples, as `estimate` says."""
    if recipe.model.sizes:
        sizes = recipe.model.sizes
    else:
        assert recipe.model.transformer is not None  # the recipe has seen to it
        sizes = TransformerSizes.read(open_family(recipe.model.transformer, TRANSFORMER).shapes)
    examples = Examples(recipe.examples)
    latent = max(
        (examples.latent_shape(take) for take in range(len(examples))), key=lambda s: s[0] * s[1] * s[2]
    )
    return estimate(
        sizes,
        (latent[0], latent[1], latent[2]),
        micro=recipe.batch.micro,
        weights=recipe.model.weights or ("bf16" if recipe.lora else "fp32"),
        precision=recipe.batch.precision,
        lora=recipe.lora,
        average=recipe.average > 0,
        checkpointing=recipe.batch.checkpointing,
    )


def estimate(
    sizes: TransformerSizes,
    latent: tuple[int, int, int],
    micro: int = 1,
    weights: str = "bf16",
    precision: str = "bf16",
    lora: LoRA | None = None,
    average: bool = True,
    checkpointing: bool = True,
) -> dict[str, int]:
    """Bytes by part for samples of `latent` (t, h, w): weights, what is trained, activations.

    Activations are what autograd keeps of one block, found by running it on PyTorch's meta device, times the blocks;
    with checkpointing one block's, and the tokens between the blocks. The text encoder, the device's own needs and
    what a kernel uses for an instant are not in it.
    """
    if weights not in STORAGE:
        raise InvalidRequest(f"weights must be {', '.join(STORAGE)}, not {weights!r}")
    dtype = DTYPES[precision]
    with torch.device("meta"):
        network = EchoVideoTransformer(sizes, dtype=dtype).requires_grad_(lora is None)
    trained = sum(parameter.numel() for parameter in network.parameters())
    parts = {"weights, frozen" if lora else "weights": count_stored_bytes(network, STORAGE[weights])}
    if lora:
        layers = LoRALayers(network, lora, seed=0)
        trained = sum(parameter.numel() for parameter in layers.parameters.values())
        parts["weights, trained"] = 4 * trained
    parts["gradients, optimiser, average"] = trained * (GRADIENT + MOMENTS + AVERAGE * average)
    tokens, block = _count_block(network, latent, micro, dtype)
    blocks = sizes.blocks
    parts["activations"] = blocks * tokens + block if checkpointing else blocks * block
    return parts


def _count_block(
    network: EchoVideoTransformer, latent: tuple[int, int, int], micro: int, dtype: torch.dtype
) -> tuple[int, int]:
    """Bytes of the tokens that enter a block, and of all that autograd keeps of it."""
    sizes, n_text = network.sizes, network.sizes.iitf.text_tokens
    grid = latent[0], latent[1] // sizes.patch, latent[2] // sizes.patch
    count = n_text + grid[0] * grid[1] * grid[2]
    tokens = torch.empty(micro, count, sizes.width, dtype=dtype, device="meta", requires_grad=True)
    time = torch.empty(micro, sizes.time_width, dtype=dtype, device="meta")
    rotary = rotary_table(*grid, sizes.head_width).to("meta")
    with _count_kept(network) as kept:
        network.transformer_blocks[0](tokens * 1, n_text, time, rotary, _Attention.apply)
    return tokens.nbytes, sum(kept.values())


@contextmanager
def _count_kept(network: EchoVideoTransformer) -> Iterator[dict[int, int]]:
    """{storage: bytes} of all tensors that autograd keeps in the block, each storage once, parameters left out."""
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # or another tensor may get the storage's place

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


class _Attention(torch.autograd.Function):
    """Attention that keeps what the fused kernels of GPUs keep: q, k, v and the result, not the N x N weights."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        mixed = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, mixed)
        return mixed.transpose(1, 2).flatten(2)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise NotImplementedError("only what forward keeps is asked for")


__all__ = ["estimate", "estimate_memory"]
