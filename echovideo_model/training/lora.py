"""LoRA while it is trained: two thin matrices beside each chosen layer, whose product is added to what it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from ..errors import InvalidRequest
from ..files import write_atomically
from ..transformer import EchoVideoTransformer
from .examples import generator
from .recipe import LoRA

BLOCKS = "transformer_blocks."  # what CogVideoX has, too; IITF's layers of the same names are left alone


class LoRALayers:
    """The trained matrices, by the path of the layer that they stand beside: down [rank, in] and up [out, rank].

    They act through forward hooks, so the network keeps its modules and its names.
    """

    def __init__(self, network: EchoVideoTransformer, recipe: LoRA, seed: int) -> None:
        """Up starts at zero, so that the first step is the network's own; down as torch.nn.Linear starts."""
        self.recipe = recipe
        self.down: dict[str, nn.Parameter] = {}
        self.up: dict[str, nn.Parameter] = {}
        scale = recipe.alpha / recipe.rank
        for path, layer in _find_layers(network, recipe.targets):
            rows, columns = layer.weight.shape
            start = torch.rand(recipe.rank, columns, generator=generator(seed, "lora", path))
            device = layer.weight.device
            self.down[path] = nn.Parameter(((2 * start - 1) / columns**0.5).to(device))
            self.up[path] = nn.Parameter(torch.zeros(rows, recipe.rank, device=device))
            layer.register_forward_hook(partial(_add_update, self.down[path], self.up[path], scale))

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The matrices under the names that diffusers and PEFT give them."""
        return {
            f"transformer.{path}.{part}.weight": matrix[path]
            for path in self.down
            for part, matrix in (("lora_A", self.down), ("lora_B", self.up))
        }

    def write(self, path: Path) -> None:
        """One .safetensors in bfloat16, in diffusers' spelling.

        alpha / rank is multiplied into lora_B, and alpha is noted in the header (where diffusers looks for it) as
        equal to the rank: diffusers' CogVideoX loader refuses a key like "to_q.alpha", and ComfyUI's, without that
        key, takes alpha / rank to be 1.
        """
        rank, alpha = self.recipe.rank, self.recipe.alpha
        tensors = {
            name: (parameter.detach() * (alpha / rank if ".lora_B." in name else 1)).to("cpu", torch.bfloat16)
            for name, parameter in self.parameters.items()
        }
        adapter = {
            "transformer.r": rank,
            "transformer.lora_alpha": rank,
            "transformer.target_modules": sorted(self.down),
        }
        metadata = {
            "format": "pt",
            "lora_adapter_metadata": json.dumps(adapter),
            "trained_alpha": f"{alpha:g}",
        }
        with write_atomically(path) as temporary:
            temporary.write_bytes(save(tensors, metadata))


def _find_layers(network: EchoVideoTransformer, targets: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(path, layer) of the blocks' linear layers that a target names: "to_q" stands for attn1.to_q in every block.

    Raises InvalidRequest for a target that no layer has.
    """
    layers = {
        name: module
        for name, module in network.named_modules()
        if name.startswith(BLOCKS) and isinstance(module, nn.Linear)
    }
    for target in targets:
        if not any(f".{target}." in f".{name}." for name in layers):
            inside = dict.fromkeys(name.split(".", 2)[2] for name in layers)
            raise InvalidRequest(f"[lora] targets: unknown layer {target!r}; choose from {', '.join(inside)}")
    for name, layer in layers.items():
        if any(f".{target}." in f".{name}." for target in targets):
            yield name, layer


def _add_update(
    down: Tensor, up: Tensor, scale: float, _layer: nn.Module, inputs: tuple[Tensor], output: Tensor
) -> Tensor:
    thin = F.linear(inputs[0], down.to(output.dtype))  # [..., in] -> [..., rank]
    return output + scale * F.linear(thin, up.to(output.dtype))
