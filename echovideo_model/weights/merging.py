"""A LoRA added to a transformer's weights, once, before anything is made with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidRequest
from ..transformer import EchoVideoTransformer
from .family import shapes_of
from .lora import LoraSettings, translate_lora
from .reading import open_tensors

_PLAIN = {"lora_down.weight", "lora_up.weight", "alpha", "diff", "diff_b"}


@torch.no_grad()
def merge_lora(network: EchoVideoTransformer, path: str | Path, strength: float = 1.0) -> int:
    """Adds strength x what the LoRA in `path` changes, in any trainer's spelling; returns the number of layers.

    Sums are made in float32 and kept in each weight's dtype; the files that weights are mapped from stay as they are.
    Raises WrongModelFile as translate_lora does, InvalidRequest for a method other than LoRA (DoRA, LoHa, ...); the
    network is then as it was.
    """
    opened = open_tensors(path)
    settings = LoraSettings.read(opened.metadata, opened.path)
    state = {name: tensor.clone() for name, tensor in opened.tensors()}
    layers = translate_lora(state, shapes_of(network), settings, str(path))
    for layer, parts in layers.items():
        if strange := sorted(parts.keys() - _PLAIN):
            raise InvalidRequest(
                f"{path} changes {layer} by {strange[0]}: only plain LoRAs can be merged here"
            )
    for layer, parts in layers.items():
        module = network.get_submodule(layer)
        for name, change in _changes(parts).items():
            parameter = getattr(module, name)
            summed = parameter.float() + strength * change.view(parameter.shape).to(parameter.device)
            parameter.data = summed.to(parameter.dtype)
    return len(layers)


def _changes(parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{"weight" or "bias": what is added to it, float32}."""
    changes: dict[str, Tensor] = {}
    if "lora_down.weight" in parts:
        down, up = parts["lora_down.weight"].float(), parts["lora_up.weight"].float()
        scale = float(parts["alpha"]) / len(down) if "alpha" in parts else 1.0
        changes["weight"] = scale * (up.flatten(1) @ down.flatten(1))  # [out, in]
    if "diff" in parts:
        changes["weight"] = changes.get("weight", torch.zeros(())) + parts["diff"].float()
    if "diff_b" in parts:
        changes["bias"] = parts["diff_b"].float()
    return changes
