"""Makes the host know EchoVideo: its table of models, its detection, its LoRA names. Done once, when the pack loads.

Four functions of the host are wrapped, because it has no table for what they do: each wrapper does nothing unless
an EchoVideo model is concerned.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

import comfy.lora
import comfy.model_detection
import comfy.sd
import comfy.supported_models

from ...echovideo_model.errors import InvalidRequest
from ...echovideo_model.transformer import TransformerSizes
from .model import EchoVideoConfig, EchoVideoModel
from .vae import is_cogvideox, vae_of

MARK = "echovideo_wrapped"
VAE_PREFIX = EchoVideoConfig.vae_key_prefix[0]
SIGNATURE = ("face_prj_wofc.latents", "text_proj.weight", "patch_embed.proj.weight", "proj_out.weight")
log = logging.getLogger(__name__)


def register() -> None:
    """Idempotent, and safe when the pack is loaded a second time."""
    models = comfy.supported_models.models
    models[:] = [known for known in models if known.__name__ != EchoVideoConfig.__name__]
    models.insert(0, EchoVideoConfig)
    wrap(comfy.model_detection, "detect_unet_config", detecting)
    wrap(comfy.lora, "model_lora_keys_unet", naming_lora_keys)
    wrap(comfy.sd, "load_lora_for_models", counting_lora_keys)
    wrap(comfy.sd, "load_state_dict_guess_config", loading_vae)


def wrap(module: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    current = getattr(module, name)
    original = getattr(current, MARK, current)
    wrapped = wraps(original)(wrapper(original))
    setattr(wrapped, MARK, original)
    setattr(module, name, wrapped)


def is_echovideo(state_dict: dict[str, Any], prefix: str) -> bool:
    return all(prefix + name in state_dict for name in SIGNATURE)


def detecting(original: Any) -> Any:
    def detect_unet_config(state_dict: dict[str, Any], key_prefix: str, *args: Any, **kwargs: Any) -> Any:
        if is_echovideo(state_dict, key_prefix):
            names = (name for name in state_dict if name.startswith(key_prefix))
            shapes = {name[len(key_prefix) :]: state_dict[name].shape for name in names}
            return {"image_model": "echovideo", "sizes": TransformerSizes.read(shapes)}
        return original(state_dict, key_prefix, *args, **kwargs)

    return detect_unet_config


def loading_vae(original: Any) -> Any:
    def load_state_dict_guess_config(
        sd: dict[str, Any], output_vae: bool = True, *args: Any, **kwargs: Any
    ) -> Any:
        """Of a checkpoint with EchoVideo and its VAE, such as CheckpointSave writes, the VAE is ours: older hosts know
        none of its kind, and newer ones none of another size than the released."""
        if not output_vae or not is_echovideo(sd, comfy.model_detection.unet_prefix_from_state_dict(sd)):
            return original(sd, output_vae, *args, **kwargs)
        names = {name: name.removeprefix(VAE_PREFIX) for name in sd if name.startswith(VAE_PREFIX)}
        if not is_cogvideox(names.values()):
            return original(sd, output_vae, *args, **kwargs)
        state = {own: sd.pop(name) for name, own in names.items()}
        model, clip, _, clip_vision = original(sd, False, *args, **kwargs)
        return model, clip, vae_of(state), clip_vision

    return load_state_dict_guess_config


def naming_lora_keys(original: Any) -> Any:
    def model_lora_keys_unet(model: Any, key_map: dict[str, str] | None = None) -> dict[str, str]:
        """The host's own spellings, and for EchoVideo those of diffusers, PEFT, LyCORIS and no prefix at all."""
        keys = original(model, {} if key_map is None else key_map)
        if isinstance(model, EchoVideoModel):
            for name in model.diffusion_model.state_dict():
                if name.endswith(".weight"):
                    path = name.removesuffix(".weight")
                    flat = path.replace(".", "_")
                    for spelling in (path, f"transformer.{path}", f"base_model.model.{path}"):
                        keys[spelling] = f"diffusion_model.{name}"
                    for spelling in (f"lycoris_{flat}", f"lora_transformer_{flat}"):
                        keys[spelling] = f"diffusion_model.{name}"
        return keys

    return model_lora_keys_unet


def counting_lora_keys(original: Any) -> Any:
    def load_lora_for_models(model: Any, clip: Any, lora: Any, *args: Any, **kwargs: Any) -> Any:
        """Says how much of a LoRA fits an EchoVideo model, and refuses one of which nothing does."""
        result = original(model, clip, lora, *args, **kwargs)
        if model is None or not isinstance(model.model, EchoVideoModel):
            return result
        wanted = {target(name) for name in lora}
        keys = comfy.lora.model_lora_keys_unet(model.model, {})
        if clip is not None:
            keys = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, keys)
        matched = len(wanted & keys.keys())
        if not matched:
            raise InvalidRequest(
                f"none of this LoRA's {len(wanted)} layers is one of EchoVideo's (the first is {min(wanted)}): "
                "it was trained for another model; EchoVideo takes LoRAs for CogVideoX-5b"
            )
        log.info("EchoVideo: LoRA matched %d of %d layers", matched, len(wanted))
        return result

    return load_lora_for_models


SUFFIXES = (
    ".lora_A",
    ".lora_B",
    ".lora_up",
    ".lora_down",
    ".lora.up",
    ".lora.down",
    ".alpha",
    ".dora_scale",
    ".diff",
)


def target(key: str) -> str:
    """The layer that a LoRA file's key is about: everything before the first adapter part of its name."""
    ends = [at for at in (key.find(suffix) for suffix in SUFFIXES) if at > 0]
    return key[: min(ends)] if ends else key.rpartition(".")[0] or key
