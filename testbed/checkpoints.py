"""Tiny checkpoints in a host's models folder, under the names that the shipped workflows ask for."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from echovideo_model.tiny import PORTRAITS, build
from echovideo_model.tiny.networks import TEXT_WIDTH
from echovideo_model.tiny.weights import draw_state

TRANSFORMER, TRANSFORMER_PART_2 = (f"echovideo-0000{part}-of-00002.safetensors" for part in (1, 2))
TEXT_ENCODER = "t5xxl_fp16.safetensors"
VAE = "cogvideox_vae.safetensors"
PARSER = "parsing_bisenet.pth"
SIGLIP = "siglip-base-patch16-224.safetensors"
PHOTOS = ("portrait.png", "second_portrait.png")
PLACES = {
    "transformer/diffusion_pytorch_model-00001-of-00002.safetensors": f"diffusion_models/{TRANSFORMER}",
    "transformer/diffusion_pytorch_model-00002-of-00002.safetensors": f"diffusion_models/{TRANSFORMER_PART_2}",
    "vae/diffusion_pytorch_model.safetensors": f"vae/{VAE}",
    "clip_visual_encoder/model.safetensors": f"clip_vision/{SIGLIP}",
    "face_encoder/parsing_bisenet.pth": f"facemodels/{PARSER}",
    "face_encoder/models/antelopev2": "insightface/models/antelopev2",
}

LAYERS = [
    f"transformer_blocks.{block}.attn1.to_{part}" for block in range(2) for part in ("q", "k", "v", "out.0")
]
SPELLINGS = {
    "diffusers": ("transformer.{path}", "lora_A.weight", "lora_B.weight"),
    "peft": ("base_model.model.{path}", "lora_A.weight", "lora_B.weight"),
    "comfy": ("diffusion_model.{path}", "lora_A.weight", "lora_B.weight"),
    "peft, named": ("base_model.model.{path}", "lora_A.somebody.weight", "lora_B.somebody.weight"),
    "kohya": ("lora_unet_{flat}", "lora_down.weight", "lora_up.weight"),
    "VideoX-Fun": ("lora_unet__{flat}", "lora_down.weight", "lora_up.weight"),
    "LyCORIS": ("lycoris_{flat}", "lora_down.weight", "lora_up.weight"),
    "older diffusers": ("transformer.{path}", "lora.down.weight", "lora.up.weight"),
    "transformers": ("{path}", "lora_linear_layer.down.weight", "lora_linear_layer.up.weight"),
}


def write_checkpoints(base: Path, released: Path) -> None:
    """Fills `base` (a host's base directory) with the tiny set, made in `released`, and with two portraits."""
    build(released)
    for source, place in PLACES.items():
        target = base / "models" / place
        target.parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (released / source).is_dir() else shutil.copy
        copy(released / source, target)
    write_text_encoder(base / "models" / "text_encoders" / TEXT_ENCODER)
    (base / "input").mkdir(exist_ok=True)
    for photo, name in zip(PORTRAITS, PHOTOS, strict=True):
        shutil.copy(photo, base / "input" / name)


def write_transformer(path: Path, text_tokens: int) -> None:
    """The tiny transformer, but reading `text_tokens` tokens."""
    import torch
    from safetensors.torch import save_file

    from echovideo_model.tiny.networks import IITF_SIZES, TRANSFORMER_SIZES
    from echovideo_model.transformer import EchoVideoTransformer

    sizes = replace(TRANSFORMER_SIZES, iitf=replace(IITF_SIZES, text_tokens=text_tokens))
    with torch.device("meta"):
        network = EchoVideoTransformer(sizes)
    save_file(draw_state(network), path)


def write_text_encoder(path: Path, metadata: dict[str, str] | None = None) -> None:
    """A T5 as narrow as the tiny transformer reads, with the whole vocabulary of the tokenizer that hosts bring."""
    import torch
    from safetensors.torch import save_file
    from transformers import T5Config, T5EncoderModel

    sizes = {"d_model": TEXT_WIDTH, "d_ff": 2 * TEXT_WIDTH, "d_kv": 16, "num_heads": 4, "num_layers": 2}
    with torch.device("meta"):
        network = T5EncoderModel(T5Config(vocab_size=32128, feed_forward_proj="gated-gelu", **sizes))
    state = draw_state(network)
    del state["encoder.embed_tokens.weight"]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path, metadata)


def write_lora(base: Path, name: str, spelling: str, layers: list[str] = LAYERS, width: int = 128) -> None:
    """A LoRA of rank 4 over `layers`, with its keys in one of SPELLINGS."""
    import torch
    from safetensors.torch import save_file

    pattern, down, up = SPELLINGS[spelling]
    generator = torch.Generator().manual_seed(0)
    state = {}
    for path in layers:
        layer = pattern.format(path=path, flat=path.replace(".", "_"))
        state[f"{layer}.{down}"] = torch.randn(4, width, generator=generator) / width**0.5
        state[f"{layer}.{up}"] = torch.randn(width, 4, generator=generator) / 2
    (base / "models" / "loras").mkdir(parents=True, exist_ok=True)
    save_file(state, base / "models" / "loras" / name)
