"""Registers EchoVideo with the host: models, detection, LoRA names. Done once, when the pack loads.

Nine functions of the host are wrapped, because it has no table for what they do: each wrapper changes nothing unless
an EchoVideo model is concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.model_detection
import comfy.sd
import comfy.supported_models
import comfy.utils
import folder_paths
import latent_preview

from ...echovideo_model.facts import ModelFacts
from ...echovideo_model.transformer import TransformerSizes
from .clip import load_clip, says_tokens
from .draft import preview_with_draft
from .folders import put_nano_last
from .lora import keep_settings, remember_layers, translate
from .model import EchoVideoConfig
from .vae import build_small_vae, is_cogvideox, make_vae

MARK = "echovideo_wrapped"
VAE_PREFIX = EchoVideoConfig.vae_key_prefix[0]
SIGNATURE = ("face_prj_wofc.latents", "text_proj.weight", "patch_embed.proj.weight", "proj_out.weight")


def register() -> None:
    """Idempotent, and safe when the pack is loaded a second time."""
    models = comfy.supported_models.models
    models[:] = [known for known in models if known.__name__ != EchoVideoConfig.__name__]
    models.insert(0, EchoVideoConfig)
    wrap(comfy.model_detection, "detect_unet_config", detect_echovideo)
    wrap(comfy.lora, "model_lora_keys_unet", remember_layers)
    wrap(comfy.lora, "load_lora", translate)
    wrap(comfy.utils, "load_torch_file", keep_settings)
    wrap(comfy.sd, "load_state_dict_guess_config", load_own_vae)
    wrap(comfy.sd, "load_clip", load_own_clip)
    wrap(comfy.sd.VAE, "__init__", build_small_vae)
    wrap(folder_paths, "get_filename_list", put_nano_last)
    wrap(latent_preview, "get_previewer", preview_with_draft)


def wrap(module: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    current = getattr(module, name)
    original = getattr(current, MARK, current)
    wrapped = wraps(original)(wrapper(original))
    setattr(wrapped, MARK, original)
    setattr(module, name, wrapped)


def is_echovideo(state_dict: dict[str, Any], prefix: str) -> bool:
    return all(prefix + name in state_dict for name in SIGNATURE)


def detect_echovideo(original: Any) -> Any:
    def detect_unet_config(
        state_dict: dict[str, Any], key_prefix: str, metadata: dict[str, str] | None = None, **kwargs: Any
    ) -> Any:
        if is_echovideo(state_dict, key_prefix):
            names = (name for name in state_dict if name.startswith(key_prefix))
            shapes = {name[len(key_prefix) :]: state_dict[name].shape for name in names}
            said = {"facts": ModelFacts.parse(metadata)} if metadata else {}
            return {"image_model": "echovideo", "sizes": TransformerSizes.read(shapes), **said}
        return original(state_dict, key_prefix, metadata=metadata, **kwargs)

    return detect_unet_config


def load_own_vae(original: Any) -> Any:
    def load_state_dict_guess_config(
        sd: dict[str, Any], output_vae: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """In a checkpoint with EchoVideo and its VAE, such as CheckpointSave writes, the VAE is ours: older hosts do
        not know its kind, and newer ones only the released size."""
        if not output_vae or not is_echovideo(sd, comfy.model_detection.unet_prefix_from_state_dict(sd)):
            return original(sd, output_vae, *args, **kwargs)
        names = {name: name.removeprefix(VAE_PREFIX) for name in sd if name.startswith(VAE_PREFIX)}
        if not is_cogvideox(names.values()):
            return original(sd, output_vae, *args, **kwargs)
        state = {own: sd.pop(name) for name, own in names.items()}
        model, clip, _, clip_vision = original(sd, False, *args, **kwargs)
        return model, clip, make_vae(state), clip_vision

    return load_state_dict_guess_config


def load_own_clip(original: Any) -> Any:
    def load_text_encoder(ckpt_paths: list[str], *args: Any, **kwargs: Any) -> Any:
        """A text encoder that says how many tokens it is for is ours, whatever type the host's Load CLIP names."""
        if len(ckpt_paths) == 1 and says_tokens(Path(ckpt_paths[0])):
            return load_clip(Path(ckpt_paths[0]), model_options=kwargs.get("model_options"))
        return original(ckpt_paths, *args, **kwargs)

    return load_text_encoder
