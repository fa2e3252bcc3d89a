"""What a recipe trains: the transformer or a LoRA for it, the loss of a batch, and the model that is written."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..devices import computes_slowly
from ..errors import InvalidRequest
from ..files import write_folder_atomically
from ..operations import Attend
from ..transformer import EchoVideoTransformer
from ..weights.configuration import transformer_config
from ..weights.loading import SHARD_STEM, STORAGE, load_transformer
from ..weights.writing import write_folder
from .examples import Examples, generator
from .initial import initialise
from .likeness import LatentRecogniser, likeness_loss
from .lora import LoRALayers
from .objective import Batch, predict_velocity, velocity_loss
from .recipe import Recipe

logger = logging.getLogger(__name__)

BLOCK_MATRIX = re.compile(r"\.transformer_blocks\.\d+\.(attn1|ff)\.")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Trained:
    """The transformer, and `parameters`: what is trained of it, by their names in the state."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        """Raises InvalidRequest, ModelFileMissing or WrongModelFile for what the recipe names."""
        self.recipe = recipe
        self.dtype = DTYPES[recipe.batch.precision]
        if computes_slowly(self.dtype, device):
            logger.warning(
                "this CPU has no AVX-512, so %s is emulated and very slow: "
                'set precision = "fp32" under [batch] in the recipe',
                recipe.batch.precision,
            )
        self.network = _make_transformer(recipe).to(device)
        if recipe.batch.checkpointing:
            self.network.through_blocks = partial(_checkpoint_blocks, self.network)  # type: ignore[method-assign, assignment, unused-ignore]
        self.lora = LoRALayers(self.network, recipe.lora, recipe.seed) if recipe.lora else None
        likeness = recipe.likeness
        self.recogniser = LatentRecogniser.load(likeness.recogniser).to(device) if likeness else None
        self.parameters: dict[str, nn.Parameter]
        if self.lora:
            self.parameters = self.lora.parameters
        else:
            self.parameters = {f"transformer.{name}": one for name, one in self.network.named_parameters()}

    def loss(self, batch: Batch) -> Tensor:
        """The loss of each sample [B], float32."""
        predicted = predict_velocity(self.network, batch, self.dtype)
        loss = velocity_loss(batch, predicted, self.recipe.motion_weight)
        if self.recogniser and self.recipe.likeness:
            loss = loss + self.recipe.likeness.weight * likeness_loss(self.recogniser, batch, predicted)
        return loss

    def block_matrices(self) -> dict[str, nn.Parameter]:
        """Of `parameters`, the blocks' attention and feed-forward weights [out, in]."""
        return {
            name: value
            for name, value in self.parameters.items()
            if value.ndim == 2 and BLOCK_MATRIX.search(name)
        }

    def require_fitting(self, examples: Examples) -> None:
        """Raises InvalidRequest if these examples were prepared for another text encoder."""
        sizes = self.network.sizes.iitf
        found, expected = tuple(examples.empty.text.shape), (sizes.text_tokens, sizes.text_width)
        if found != expected:
            raise InvalidRequest(
                f"the captions in {examples.folder} have shape {list(found)}, but this transformer "
                f"takes {list(expected)}: prepare them for this model"
            )

    def write(self, folder: Path) -> None:
        """Writes the model to `folder`, replacing an older one: lora.safetensors, or `transformer` as it is released,
        in bfloat16."""
        with write_folder_atomically(folder) as temporary:
            if self.lora:
                self.lora.write(temporary / "lora.safetensors")
                return
            state = self.network.state_dict()

            def read(names: Iterable[str]) -> Iterator[Tensor]:
                return (state[name].detach().to("cpu", torch.bfloat16) for name in names)

            planned = {name: (tuple(value.shape), torch.bfloat16) for name, value in state.items()}
            config = transformer_config(self.network.sizes)
            write_folder(temporary / "transformer", SHARD_STEM, planned, read, config)


def _make_transformer(recipe: Recipe) -> EchoVideoTransformer:
    """On the CPU. What is trained is float32; under a LoRA it is frozen, as narrow as it is kept."""
    if recipe.model.sizes:
        network = EchoVideoTransformer(recipe.model.sizes)
        initialise(network, generator(recipe.seed, "transformer"))
        return network.requires_grad_(True)
    assert recipe.model.transformer is not None  # the recipe has seen to it
    if recipe.lora:
        weights = recipe.model.weights
        if weights is not None and weights not in STORAGE:
            raise InvalidRequest(f"[model] weights must be {', '.join(STORAGE)}, not {weights!r}")
        return load_transformer(recipe.model.transformer, STORAGE[weights] if weights else None)
    return load_transformer(recipe.model.transformer, torch.float32).requires_grad_(True)


def _checkpoint_blocks(
    network: EchoVideoTransformer, tokens: Tensor, n_text: int, time: Tensor, rotary: Tensor, attend: Attend
) -> Tensor:
    """EchoVideoTransformer.through_blocks, keeping of each block its input alone until the backward pass."""
    for block in network.transformer_blocks:
        tokens = checkpoint(block, tokens, n_text, time, rotary, attend, use_reentrant=False)
    return tokens
