"""Merges LoRAs into a transformer's weights, once, before sampling."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InvalidRequest
from ..transformer import EchoVideoTransformer
from .family import Shapes, list_shapes
from .loading import NARROW, load_transformer, read_empty_transformer, storage_dtype
from .lora import LoraSettings, describe_scale, is_text_encoder, translate_lora
from .reading import OnBytes, open_tensors

MAX_LORA_STRENGTH = 100.0  # either way, as in ComfyUI's loaders
_PLAIN = {"lora_down.weight", "lora_up.weight", "alpha", "diff", "diff_b"}
Layers = dict[str, dict[str, Tensor]]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lora:
    """A LoRA file, and how much of its change is added: 0 is nothing, 1 as trained, below 0 the reverse."""

    path: Path
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not abs(self.strength) <= MAX_LORA_STRENGTH:  # NaN included
            raise InvalidRequest(
                f"LoRA strength must be from -{MAX_LORA_STRENGTH:g} to {MAX_LORA_STRENGTH:g}, not "
                f"{self.strength:g}"
            )

    @classmethod
    def parse(cls, text: str) -> Lora:
        """From FILE or FILE:STRENGTH. A colon is part of the name if there is such a file, or if no number follows, as
        in C:\\style.safetensors. Raises InvalidRequest."""
        name, colon, number = text.rpartition(":")
        if colon and not Path(text).is_file():
            try:
                return cls(Path(name), float(number))
            except ValueError:
                pass
        return cls(Path(text))

    def __str__(self) -> str:
        return f"{self.path.name}:{self.strength:g}"


def read_lora(path: Path, shapes: Shapes, warn: bool = True) -> Layers:
    """{layer: {part: tensor}} of a LoRA in any trainer's spelling for a network of these {parameter: shape}.

    Weights for a text encoder are ignored, with a warning unless `warn` is False.
    Raises InvalidRequest if there is no file or for a method other than LoRA (DoRA, LoHa, ...), WrongModelFile as
    translate_lora does.
    """
    if not path.is_file():
        raise InvalidRequest(f"no LoRA at {path}: give a .safetensors file, or FILE:STRENGTH")
    opened = open_tensors(path)
    settings = LoraSettings.read(opened.metadata, opened.path)
    state = {name: tensor.clone() for name, tensor in opened.tensors()}
    layers = translate_lora(state, shapes, settings, str(path))
    unused = sorted(filter(is_text_encoder, state))
    if unused and warn:
        logger.warning(
            "%s also changes a text encoder, which is ignored here: %d tensors are not used (the first "
            "is %s)",
            path,
            len(unused),
            unused[0],
        )
    for layer, parts in layers.items():
        if strange := sorted(parts.keys() - _PLAIN):
            raise InvalidRequest(
                f"{path} changes {layer} with {strange[0]}: only plain LoRAs can be merged here"
            )
    return layers


@torch.no_grad()
def merge_loras(network: EchoVideoTransformer, loras: Sequence[Lora]) -> None:
    """Adds strength x what each LoRA changes.

    Sums are made in float32, over all of them, and kept in each weight's dtype; the files that weights are mapped from
    stay as they are. A strength of 0 leaves every weight equal to the bit. Raises what read_lora raises; the network
    is then as it was.
    """
    shapes = list_shapes(network)
    read = [(lora, read_lora(lora.path, shapes)) for lora in loras]
    for lora, layers in read:
        logger.info("%s: LoRA matched %d of %d layers%s", lora, *[len(layers)] * 2, describe_scale(layers))
    acting = [(lora.strength, layers) for lora, layers in read if lora.strength]
    for layer in dict.fromkeys(layer for _, layers in acting for layer in layers):
        module = network.get_submodule(layer)
        summed: dict[str, Tensor] = {}
        for strength, layers in acting:
            for name, change in _changes(layers.get(layer, {})).items():
                parameter = getattr(module, name)
                before = summed[name] if name in summed else parameter.float()
                summed[name] = before + strength * change.view(parameter.shape).to(parameter.device)
        for name, value in summed.items():
            parameter = getattr(module, name)
            parameter.data = value.to(parameter.dtype)


def load_with_loras(
    path: str | Path, loras: Sequence[Lora], dtype: torch.dtype | None = None, on_bytes: OnBytes | None = None
) -> EchoVideoTransformer:
    """load_transformer, with the LoRAs merged before float8 narrows the weights: what they add would be lost in it."""
    narrowed = dtype in NARROW and bool(loras)
    network = load_transformer(path, None if narrowed else dtype, on_bytes)
    merge_loras(network, loras)
    for name, parameter in network.named_parameters() if narrowed else ():
        parameter.data = parameter.data.to(storage_dtype(name, dtype or parameter.dtype))
    return network


def check_loras(path: str | Path, loras: Sequence[Lora]) -> None:
    """Raises what merging into the transformer at `path` would raise, reading only its header."""
    shapes = list_shapes(read_empty_transformer(path)) if loras else {}
    for lora in loras:
        read_lora(lora.path, shapes, warn=False)  # merging will warn


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
