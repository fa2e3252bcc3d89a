"""LoRAs on EchoVideo, however they are loaded: by the host's loaders, its hooks, or other packs.

All of them ask for the model's names (model_lora_keys_unet) and then match a file against them (load_lora). The first
is given the network's shapes as well, so that the second can translate the file, check it, and say what it used.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy.weight_adapter.lora import LoRAAdapter
from safetensors import safe_open
from torch import Tensor

from ...echovideo_model.weights.adapters import MAGNITUDE
from ...echovideo_model.weights.lora import LoraSettings, describe_scale, is_text_encoder, translate_lora
from .model import EchoVideoModel, list_released_shapes

PREFIX = "diffusion_model."
log = logging.getLogger(__name__)


class LayerNames(dict[str, Any]):
    """The host's {spelling: parameter} of an EchoVideo model, with the shapes of its parameters."""

    def __init__(self, names: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(names)
        self.shapes = shapes


class LoraFile(dict[str, Tensor]):
    """A LoRA's tensors, with what its metadata or the adapter_config.json beside it says of its scale."""

    def __init__(self, state: Mapping[str, Tensor], path: Path) -> None:
        super().__init__(state)
        self.path = path

    def read_settings(self) -> LoraSettings:
        metadata = None
        if self.path.suffix == ".safetensors":
            with safe_open(self.path, "pt") as file:
                metadata = file.metadata()
        return LoraSettings.read(metadata, self.path)


class PeftDora(LoRAAdapter):
    """DoRA as PEFT trains it. The host's own divides by the norm of W alone if the magnitude is per row."""

    def __init__(self, parts: Mapping[str, Tensor]) -> None:
        super().__init__(set(), (parts["lora_up.weight"], parts["lora_down.weight"], None, None, None, None))
        self.parts = parts

    def calculate_weight(
        self,
        weight: Tensor,
        key: str,
        strength: float,
        strength_model: float,
        offset: Any,
        function: Any,
        intermediate_dtype: torch.dtype = torch.float32,
        original_weight: Any = None,
    ) -> Tensor:
        up, down, magnitude = (
            comfy.model_management.cast_to_device(self.parts[part], weight.device, intermediate_dtype)
            for part in ("lora_up.weight", "lora_down.weight", MAGNITUDE)
        )
        scale = float(self.parts["alpha"]) / len(down) if "alpha" in self.parts else 1.0
        base = weight.to(intermediate_dtype)
        changed = base + scale * (up.flatten(1) @ down.flatten(1)).reshape(base.shape)
        rows = (-1, *[1] * (base.ndim - 1))
        changed = changed * (magnitude.flatten() / changed.flatten(1).norm(dim=1)).reshape(rows)
        return weight.copy_(base + strength * (changed - base))


def remember_layers(original: Any) -> Any:
    def model_lora_keys_unet(model: Any, key_map: dict[str, Any] | None = None) -> dict[str, Any]:
        names = original(model, {} if key_map is None else key_map)
        if not isinstance(model, EchoVideoModel):
            return names
        return LayerNames(names, list_released_shapes(model.diffusion_model.sizes))

    return model_lora_keys_unet


def translate(original: Any) -> Any:
    def load_lora(lora: dict[str, Tensor], to_load: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if not isinstance(to_load, LayerNames):
            return original(lora, to_load, *args, **kwargs)
        settings = lora.read_settings() if isinstance(lora, LoraFile) else LoraSettings()
        name = lora.path.name if isinstance(lora, LoraFile) else "this LoRA"
        layers = translate_lora(lora, to_load.shapes, settings, name)
        dora = {path: parts for path, parts in layers.items() if MAGNITUDE in parts}
        spelled = {key: tensor for key, tensor in lora.items() if is_text_encoder(key)}
        for path, parts in layers.items():
            spelled |= {
                f"{PREFIX}{path}.{part}": tensor for part, tensor in parts.items() if part != MAGNITUDE
            }
        patches = original(spelled, to_load, *args, **kwargs)
        for path, parts in dora.items():
            patches[f"{PREFIX}{path}.weight"] = PeftDora(parts)
        log.info(
            "EchoVideo: LoRA matched %d of %d layers%s", len(layers), len(layers), describe_scale(layers)
        )
        return patches

    return load_lora


def keep_settings(original: Any) -> Any:
    def load_torch_file(ckpt: Any, *args: Any, **kwargs: Any) -> Any:
        """What the host reads and, for a file in a folder of LoRAs, where it came from."""
        result = original(ckpt, *args, **kwargs)
        if not is_lora(ckpt):
            return result
        if isinstance(result, tuple):
            return LoraFile(result[0], Path(ckpt)), *result[1:]
        return LoraFile(result, Path(ckpt)) if isinstance(result, dict) else result

    return load_torch_file


def is_lora(path: Any) -> bool:
    """Whether a file lies in one of the host's folders of LoRAs."""
    folders = (Path(os.path.abspath(folder)) for folder in folder_paths.get_folder_paths("loras"))
    return any(Path(os.path.abspath(path)).is_relative_to(folder) for folder in folders)
