"""SigLIP's image encoder (arXiv 2303.15343): what the face picture shows, as one token per patch."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import ModelFileMissing, WrongModelFile
from . import DOWNLOAD, fit, read_weights

if TYPE_CHECKING:
    from transformers import SiglipVisionConfig

HEAD_WIDTH = 64
TOKENS = (196, 768)  # what IITF takes: other members of the SigLIP family differ here
_NETWORK = "a SigLIP model (google/siglip-base-patch16-224)"
_PREFIX = (
    "vision_model."  # of the image half in the released file; transformers 5 saves that half alone without it
)


def siglip_pixels(face_picture: np.ndarray, size: int = 224) -> Tensor:
    """float32 [3, size, size] in -1..1 from uint8 RGB [H, W, 3]: the whole picture, bicubic, nothing cropped."""
    resized = Image.fromarray(face_picture).resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized, np.float32) / 127.5 - 1).permute(2, 0, 1).contiguous()


class SiglipEncoder:
    """transformers' SigLIP image encoder, in float32."""

    def __init__(self, network: nn.Module, size: int = 224) -> None:
        """`network` maps pixel_values [B, 3, size, size] to an output with last_hidden_state [B, 196, 768]."""
        self.network = network.eval()
        self.size = size

    @classmethod
    def load(cls, path: str | Path) -> SiglipEncoder:
        """From the released folder, or a .safetensors file: the whole SigLIP model or its image half.

        Depth and inner width are read off the weights. Raises ModelFileMissing or WrongModelFile.
        """
        from transformers import SiglipVisionModel

        file = _weights_file(Path(path))
        state = _image_half(read_weights(file, _NETWORK))
        config = _config(state, file)
        # Not from_pretrained, which draws a progress bar of its own.
        with torch.device("meta"):
            network: nn.Module = SiglipVisionModel(config)
        names, wanted = list(network.state_dict()), _image_half(network.state_dict())
        fitted = fit(state, wanted, file, _NETWORK)
        network.load_state_dict({name: fitted[name.removeprefix(_PREFIX)] for name in names}, assign=True)
        prefix = _PREFIX if names[0].startswith(_PREFIX) else ""
        positions = torch.arange(TOKENS[0])[None]  # [1, 196], which no file holds
        network.get_submodule(f"{prefix}embeddings").position_ids = positions
        size = isqrt(TOKENS[0]) * wanted["embeddings.patch_embedding.weight"].shape[-1]
        return cls(network.to(torch.float32), size)

    @torch.no_grad()
    def tokens(self, face_picture: np.ndarray) -> Tensor:
        """float32 [196, 768] on the CPU: last hidden states after the final norm."""
        device = next(self.network.parameters()).device  # wherever a host has moved it
        pixels = siglip_pixels(face_picture, self.size)[None].to(device)  # [1, 3, 224, 224]
        return self.network(pixel_values=pixels).last_hidden_state[0].cpu()

    def null_tokens(self, face_picture: np.ndarray) -> Tensor:
        """The tokens of nobody: those of an all-black picture of the same size."""
        return self.tokens(np.zeros_like(face_picture))


def _weights_file(path: Path) -> Path:
    candidates = (path, path / "model.safetensors", *sorted(path.glob("*.safetensors")))
    for file in candidates:
        if file.is_file():
            return file
    raise ModelFileMissing(f"model.safetensors of SigLIP not found; searched {path}; {DOWNLOAD}")


def _image_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image encoder's entries, named as without the text half around it, whichever way they are named."""
    half = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
    return half or dict(state)


def _config(state: Mapping[str, Tensor], file: Path) -> SiglipVisionConfig:
    """Every size read off the weights; the attention-pooling head is left out, its output is not used."""
    from transformers import SiglipVisionConfig

    try:
        patch = state["embeddings.patch_embedding.weight"].shape[-1]
        tokens = tuple(state["embeddings.position_embedding.weight"].shape)
        inner = state["encoder.layers.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise WrongModelFile(f"{file} is not {_NETWORK}: {error.args[0]} is missing; {DOWNLOAD}") from error
    if tokens != TOKENS:
        raise WrongModelFile(f"{file} is not {_NETWORK}: its tokens are {tokens}, not {TOKENS}; {DOWNLOAD}")
    count, width = tokens
    return SiglipVisionConfig(
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=sum(
            name.endswith(".mlp.fc1.weight") and name.startswith("encoder.") for name in state
        ),
        num_attention_heads=width // HEAD_WIDTH,
        image_size=isqrt(count) * patch,
        patch_size=patch,
        vision_use_head=False,
    )
