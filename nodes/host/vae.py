"""CogVideoX's video autoencoder as the host's VAE: plain and tiled nodes, progress and interruption included."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management as memory
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.utils
import torch
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest, WrongModelFile
from ...echovideo_model.vae.autoencoder import CogVideoXVAE, VAESizes
from ...echovideo_model.weights.family import list_differences, list_shapes
from ...echovideo_model.weights.loading import read_config
from .rgb import learn_colours

GROUPS = "norm_num_groups"
FIRST_KERNEL = "encoder.down_blocks.0.resnets.0.conv1.conv.weight"
WORKING_DTYPES = [torch.bfloat16, torch.float16, torch.float32]


class HostAutoencoder(CogVideoXVAE):
    """The library's network under the host's calls: one tensor in, one tensor out."""

    with_spread = False

    @contextmanager
    def give_spread(self) -> Iterator[None]:
        """Inside the block, `encode` also gives the posterior's deviation, as 16 further channels."""
        self.with_spread = True
        try:
            yield
        finally:
            self.with_spread = False

    def encode(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        """pixels [B, 3, T, H, W] in -1..1 -> the posterior's mean [B, 16, t, h, w]; frames after the last 4n + 1
        are left out."""
        frames = (pixels.shape[2] - 1) // 4 * 4 + 1
        mean, log_variance = super().encode(pixels[:, :, :frames], on_chunk=Progress())
        return torch.cat([mean, (0.5 * log_variance.float()).exp().to(mean)], 1) if self.with_spread else mean

    def decode(self, latents: Tensor, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        """latents [B, 16, t, h, w] -> pixels [B, 3, 4 (t - 1) + 1, 8h, 8w]."""
        pixels = super().decode(latents, on_chunk=Progress())
        if not pixels.isfinite().all():
            cause = (
                "the VAE overflows or its file is damaged: run ComfyUI with --bf16-vae, or download it again"
            )
            if not latents.isfinite().all():
                cause = "the latents hold NaN or infinity: sample them again"
            raise InvalidRequest(f"decoding gave NaN or infinity because {cause}")
        return pixels


class Progress:
    """The host's progress bar over the chunks of a clip; it also raises if the user presses stop."""

    def __init__(self) -> None:
        self.bar: comfy.utils.ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        memory.throw_exception_if_processing_interrupted()
        self.bar = self.bar or comfy.utils.ProgressBar(total)
        self.bar.update_absolute(done, total)


class EchoVideoVAE(comfy.sd.VAE):
    """First made without any weights, so that each host sets every attribute it knows, then given ours."""

    def __init__(self, state: dict[str, Tensor], groups: int | None = None) -> None:
        self.describe()
        sizes = VAESizes.read({name: tensor.shape for name, tensor in state.items()}, groups)
        offload = memory.vae_offload_device()
        network = HostAutoencoder(sizes, comfy.ops.disable_weight_init, dtype=self.vae_dtype, device=offload)
        missing, unexpected = list_differences(
            list_shapes(network), {k: tuple(v.shape) for k, v in state.items()}
        )
        if missing or unexpected:
            raise WrongModelFile(
                "download this CogVideoX VAE again, it is incomplete or not the published one: "
                f"{len(missing)} weights are missing, {len(unexpected)} do not fit (the first is "
                f"{(missing or unexpected)[0]})"
            )
        network.load_state_dict(state)
        self.hold(network)

    def describe(self) -> None:
        """Sets what the host asks a VAE about its latents, its memory and its devices."""
        with suppress_log("No VAE weights detected"):
            comfy.sd.VAE.__init__(self, sd={})
        self.latent_channels = 16
        self.latent_dim = 3
        self.output_channels = 3
        self.not_video = False
        self.upscale_ratio = (lambda frames: max(0, 4 * frames - 3), 8, 8)
        self.upscale_index_formula = (4, 8, 8)
        self.downscale_ratio = (lambda frames: max(0, math.floor((frames + 3) / 4)), 8, 8)
        self.downscale_index_formula = (4, 8, 8)
        self.working_dtypes = WORKING_DTYPES
        self.memory_used_encode = estimate_encoding
        self.memory_used_decode = estimate_decoding
        self.device = memory.vae_device()
        self.vae_dtype = memory.vae_dtype(self.device, self.working_dtypes)
        self.output_device = memory.intermediate_device()
        self.disable_offload = (
            True  # 0.4 GB; its norms are computed piece by piece from their bare parameters
        )

    def hold(self, network: torch.nn.Module) -> None:
        """Takes the network that it wraps, whose weights are on the offload device."""
        self.first_stage_model = network.eval().requires_grad_(False)
        # The plain patcher on every host: a dynamic one would leave bare parameters behind.
        self.patcher = comfy.model_patcher.ModelPatcher(
            network, load_device=self.device, offload_device=memory.vae_offload_device()
        )

    def get_sd(self) -> dict[str, Tensor]:
        """What the host's save nodes write, with the number of groups if it is not the released one."""
        state, groups = super().get_sd(), self.first_stage_model.sizes.groups
        return state if groups == VAESizes.groups else state | {GROUPS: torch.tensor(groups)}


@contextmanager
def suppress_log(words: str) -> Iterator[None]:
    """Keeps a message that holds these words out of the log; here it would be wrong."""
    logger = logging.getLogger()

    def keep(record: logging.LogRecord) -> bool:
        return words not in record.getMessage()

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def estimate_decoding(shape: Any, dtype: torch.dtype) -> float:
    """Bytes at the peak of decoding latents [B, 16, t, h, w]: the finished frames, and one chunk being decoded."""
    frames, rows, columns = shape[-3], shape[-2] * 8, shape[-1] * 8
    return (4 * frames * 3 + 1200) * rows * columns * memory.dtype_size(dtype)


def estimate_encoding(shape: Any, dtype: torch.dtype) -> float:
    """Bytes at the peak of encoding pixels [B, 3, T, H, W]."""
    return (shape[-3] * 3 + 1200) * shape[-2] * shape[-1] * memory.dtype_size(dtype)


def build_small_vae(original: Any) -> Any:
    def __init__(self: Any, sd: Any = None, *args: Any, **kwargs: Any) -> None:
        """The host's VAE, and ours in its place for a CogVideoX VAE without the released size, the only one that hosts
        know."""
        first = (sd or {}).get(FIRST_KERNEL)
        if type(self) is not comfy.sd.VAE or first is None or len(first) == VAESizes.channels[0]:
            original(self, sd, *args, **kwargs)
            return
        said = json.loads((kwargs.get("metadata") or {}).get("config", "{}"))
        self.__class__ = EchoVideoVAE
        EchoVideoVAE.__init__(self, sd, take_groups(sd, said.get(GROUPS)))
        learn_colours(self)

    return __init__


def is_cogvideox(names: Collection[str]) -> bool:
    """Whether weights of these names are the CogVideoX VAE's."""
    return FIRST_KERNEL in names


def make_vae(state: dict[str, Tensor], groups: int | None = None) -> EchoVideoVAE:
    """The VAE with these weights; from now on, the sampling preview uses its colours.

    groups: of its norms, where a configuration says so. Raises WrongModelFile when they cannot be known.
    """
    vae = EchoVideoVAE(state, take_groups(state, groups))
    learn_colours(vae)
    return vae


def take_groups(state: dict[str, Tensor], groups: int | None) -> int | None:
    """The number of groups that get_sd put into `state`, else `groups`."""
    saved = state.pop(GROUPS, None)
    return groups if saved is None else int(saved)


def take_vae(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None) -> EchoVideoVAE:
    """The VAE that `path` holds. Raises WrongModelFile."""
    if not is_cogvideox(state):
        raise WrongModelFile(
            f"{path.name} is not the CogVideoX VAE: choose the one of zai-org/CogVideoX-5b, "
            f"diffusion_pytorch_model.safetensors in vae/ (this file holds {next(iter(state), 'nothing')})"
        )
    return make_vae(state, read_config(path, metadata or {}).get(GROUPS))
