"""A T5 encoder that is trained with the transformer: new or loaded, and written in the released layout."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from ..files import write_atomically
from ..text import TextEncoder as Encoder
from ..text import for_comfyui, load_tokenizer
from .examples import generator
from .recipe import TextEncoder, TextSizes


def make_text_encoder(recipe: TextEncoder, seed: int) -> Any:
    """transformers' T5EncoderModel in float32, without dropout, every parameter to be trained."""
    if recipe.sizes is None:
        assert recipe.weights is not None  # the recipe has seen to it
        network = Encoder.load(recipe.weights, recipe.tokenizer, torch.float32).network
    else:
        network = _new_encoder(recipe.sizes, len(load_tokenizer(recipe.tokenizer)), seed)
    return network.eval().requires_grad_(True)


def write_text_encoder(network: Any, recipe: TextEncoder, folder: Path, tokens: int) -> None:
    """The released folders `text_encoder` and `tokenizer` inside `folder`, which is new.

    tokens: how many the transformer reads. They and the tokenizer also go into the weights' file, for ComfyUI.
    """
    state = {
        name: value.detach().cpu().bfloat16().contiguous() for name, value in network.state_dict().items()
    }
    del state["encoder.embed_tokens.weight"]  # `shared.weight` again
    shutil.copytree(recipe.tokenizer, folder / "tokenizer")
    metadata = {"format": "pt"}
    if (recipe.tokenizer / "spiece.model").is_file():
        tensors, said = for_comfyui(recipe.tokenizer, tokens)
        state, metadata = state | tensors, metadata | said
    with write_atomically(folder / "text_encoder" / "model.safetensors") as temporary:
        temporary.write_bytes(save(state, metadata))
    with write_atomically(folder / "text_encoder" / "config.json") as temporary:
        temporary.write_text(json.dumps(network.config.to_dict(), indent=2) + "\n", "utf-8")


def _new_encoder(sizes: TextSizes, pieces: int, seed: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    more: Any = {"tie_word_embeddings": False, "architectures": ["T5EncoderModel"]}
    config = T5Config(
        vocab_size=-(-pieces // 128) * 128,  # padded as the released one is
        d_model=sizes.width,
        d_kv=sizes.width // sizes.heads,
        d_ff=sizes.hidden,
        num_layers=sizes.layers,
        num_heads=sizes.heads,
        feed_forward_proj="gated-gelu",
        **more,
    )
    with torch.device("meta"):
        network = T5EncoderModel(config)
    network.to_empty(device="cpu")
    network.encoder.set_input_embeddings(network.shared)
    for name, parameter in network.named_parameters():
        _initialise(name, parameter, config, seed)
    return network


@torch.no_grad()
def _initialise(name: str, parameter: nn.Parameter, config: Any, seed: int) -> None:
    """Normal numbers of the deviations that T5 starts from (transformers' T5PreTrainedModel): its attention does not
    divide by the root of a head's width, so the queries' weights do."""
    width = config.d_model
    deviations = {
        "shared": 1.0,
        "q": (width * config.d_kv) ** -0.5,
        "o": (config.num_heads * config.d_kv) ** -0.5,
        "wo": config.d_ff**-0.5,
    }
    layer = name.split(".")[-2]
    if "layer_norm" in layer:
        parameter.fill_(1)
    else:
        parameter.normal_(
            0, deviations.get(layer, width**-0.5), generator=generator(seed, "text encoder", name)
        )
