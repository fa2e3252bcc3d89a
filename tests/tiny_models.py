"""The tiny networks as released files, for tests of what reads and converts them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from echovideo_model.tiny import networks
from echovideo_model.tiny.tokenizer import make_tokenizer_files

State = dict[str, Tensor]
FILES = {
    "transformer": networks.make_transformer_files,
    "vae": networks.make_vae_files,
    "text_encoder": networks.make_text_encoder_files,
    "tokenizer": make_tokenizer_files,
}


def write_networks(base: Path, *folders: str) -> Path:
    """Writes these folders of the released layout, the transformer in two shards, and returns `base`."""
    for folder in folders:
        (base / folder).mkdir()
        for name, content in FILES[folder]():
            (base / folder / name).write_bytes(content)
    return base


def stored(path: Path) -> State:
    """What the safetensors library reads from a file, or from every shard of a folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
