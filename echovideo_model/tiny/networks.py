"""The tiny networks as files of the released layout: shapes from the code that runs them, values by formula."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ..iitf import IITFSizes
from ..transformer import EchoVideoTransformer, TransformerSizes
from ..vae.autoencoder import CogVideoXVAE, VAESizes
from ..weights.configuration import transformer_config
from .tokenizer import SENTINELS, SPECIAL, WORD_PIECES
from .weights import draw_state

Files = Iterator[tuple[str, bytes]]

TEXT_WIDTH, FACE_WIDTH = 64, 768  # the face tokens of an identity have one width in every set
IITF_SIZES = replace(IITFSizes(), text_width=TEXT_WIDTH, face_width=FACE_WIDTH, width=64, heads=1, layers=2)
TRANSFORMER_SIZES = replace(TransformerSizes(), blocks=2, heads=2, time_width=32, iitf=IITF_SIZES)
VAE_SIZES = VAESizes(channels=(8, 8, 16, 16), layers=1, groups=4)


def make_transformer_files() -> Files:
    """The `transformer` folder: EchoVideo's denoiser in two shards."""
    with torch.device("meta"):
        network = EchoVideoTransformer(TRANSFORMER_SIZES)
    yield "config.json", _json(transformer_config(TRANSFORMER_SIZES))
    yield from _shards("diffusion_pytorch_model", draw_state(network))


def make_vae_files() -> Files:
    """The `vae` folder: CogVideoX's autoencoder in one file."""
    config = VAE_SIZES.config()
    with torch.device("meta"):
        network = CogVideoXVAE(VAE_SIZES)
    yield "config.json", _json(config)
    yield (
        "diffusion_pytorch_model.safetensors",
        _safetensors(draw_state(network), config=json.dumps(config)),
    )


def make_text_encoder_files() -> Files:
    """The `text_encoder` folder: a T5 encoder of version 1.1 in two shards."""
    from transformers import T5Config, T5EncoderModel

    config: dict[str, Any] = {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "d_ff": 2 * TEXT_WIDTH,
        "d_kv": 16,
        "d_model": TEXT_WIDTH,
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-06,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "num_layers": 2,
        "output_past": True,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": -(-(len(SPECIAL) + len(WORD_PIECES) + SENTINELS) // 128)
        * 128,  # padded as the released one is
    }
    with torch.device("meta"):
        network = T5EncoderModel(T5Config(**config))
    state = draw_state(network)
    del state["encoder.embed_tokens.weight"]  # `shared.weight` under another name: not in the released file
    yield "config.json", _json(config)
    yield from _shards("model", state)


def make_image_encoder_files() -> Files:
    """The `clip_visual_encoder` folder: SigLIP whole, with the text half that the released file has too."""
    from transformers import SiglipConfig, SiglipModel

    text = {
        "model_type": "siglip_text_model",
        "bos_token_id": 0,
        "eos_token_id": 1,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_attention_heads": 1,
        "num_hidden_layers": 1,
        "projection_size": 16,
        "vocab_size": 32,
    }
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": FACE_WIDTH,
        "image_size": 224,
        "intermediate_size": 96,
        "num_attention_heads": 12,
        "num_hidden_layers": 2,
        "patch_size": 16,
    }
    preprocessor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "size": {"height": 224, "width": 224},
    }
    config = {
        "architectures": ["SiglipModel"],
        "model_type": "siglip",
        "text_config": text,
        "torch_dtype": "float32",
        "vision_config": vision,
    }
    with torch.device("meta"):
        network = SiglipModel(SiglipConfig(text_config=text, vision_config=vision))
    yield "config.json", _json(config)
    yield "preprocessor_config.json", _json(preprocessor)
    yield "model.safetensors", _safetensors(draw_state(network))


def _shards(stem: str, state: Mapping[str, Tensor]) -> Files:
    """Two .safetensors of about the same size and the index that says which parameter is where."""
    total = sum(tensor.nbytes for tensor in state.values())
    parts: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    before = 0
    for name, tensor in state.items():
        parts[2 * before >= total][name] = tensor
        before += tensor.nbytes
    places: dict[str, str] = {}
    for number, part in enumerate(parts, start=1):
        file = f"{stem}-{number:05}-of-{len(parts):05}.safetensors"
        places |= dict.fromkeys(part, file)
        yield file, _safetensors(part)
    index = {"metadata": {"total_size": total}, "weight_map": places}
    yield f"{stem}.safetensors.index.json", _json(index)


def _safetensors(state: Mapping[str, Tensor], **metadata: str) -> bytes:
    return save(dict(state), metadata or {"format": "pt"})  # one entry: the order of more is random


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + "\n").encode()
