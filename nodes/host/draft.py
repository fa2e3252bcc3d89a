"""taecvx, TAEHV's decoder for CogVideoX latents: a VAE for drafts, and the preview of each sampling step."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import comfy.model_management as memory
import comfy.ops
import comfy.sd
import comfy.utils
import folder_paths
import latent_preview
import torch
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest, WrongModelFile
from ...echovideo_model.vae.autoencoder import LATENT_SCALE
from ...echovideo_model.vae.draft import DraftDecoder, is_draft
from ...echovideo_model.weights.family import list_differences, list_shapes
from .folders import DRAFT, PREVIEW_DECODERS, load_state
from .model import EchoVideoLatent
from .vae import EchoVideoVAE, Progress, take_vae


class HostDraftDecoder(DraftDecoder):
    """The library's network under the host's calls: one tensor in, one tensor out."""

    def encode(self, *_: Any, **__: Any) -> NoReturn:
        raise InvalidRequest(
            f"connect the CogVideoX VAE here and keep {DRAFT} for VAE Decode: {DRAFT} cannot encode"
        )

    def decode(self, latents: Tensor, *_: Any, **__: Any) -> Tensor:  # type: ignore[override]
        """latents [B, 16, t, h, w] -> pixels [B, 3, 4 (t - 1) + 1, 8h, 8w]."""
        return super().decode(latents, Progress())


class DraftVAE(EchoVideoVAE):
    """The decoder as the host's VAE."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.describe()
        self.memory_used_decode = estimate_decoding
        self.hold(fill(HostDraftDecoder, state, dtype=self.vae_dtype, device=memory.vae_offload_device()))

    def get_sd(self) -> dict[str, Tensor]:
        return comfy.sd.VAE.get_sd(self)


class DraftPreviewer(latent_preview.LatentPreviewer):  # type: ignore[misc]
    """The first frame of every step, as all of the host's previews show it."""

    def __init__(self, network: DraftDecoder, device: torch.device) -> None:
        self.network, self.device = network, device

    @torch.no_grad()
    def decode_latent_to_preview(self, x0: Tensor) -> Any:
        """x0 [B, 16, t, h, w] as in the sampler, scaled by 0.7."""
        first = x0[:1, :, :1].float().to(self.device) / LATENT_SCALE
        return latent_preview.preview_to_image(self.network.decode(first)[0, :, 0].movedim(0, -1))


def preview_with_draft(original: Any) -> Any:
    def get_previewer(device: torch.device, latent_format: Any) -> Any:
        """The host's previewer, or taecvx for EchoVideo if the user asked for TAESD previews and has it."""
        method = latent_preview.args.preview_method
        file = find_draft() if method == latent_preview.LatentPreviewMethod.TAESD else None
        if file is None or not isinstance(latent_format, EchoVideoLatent):
            return original(device, latent_format)
        network = fill(DraftDecoder, load_state(file)[0])
        return DraftPreviewer(network.to(device), device)

    return get_previewer


def find_draft() -> Path | None:
    """The first taecvx file in models/vae_approx."""
    names = folder_paths.get_filename_list(PREVIEW_DECODERS)
    found = (folder_paths.get_full_path(PREVIEW_DECODERS, name) for name in names if DRAFT in name)
    return next((Path(path) for path in found if path is not None), None)


def fill(kind: type[DraftDecoder], state: dict[str, Tensor], **place: Any) -> DraftDecoder:
    """The decoder with these weights, ignoring those of an encoder. Raises WrongModelFile if they do not fit."""
    network = kind(comfy.ops.disable_weight_init, **place)
    own = {name: tensor for name, tensor in state.items() if not name.startswith("encoder.")}
    missing, unexpected = list_differences(
        list_shapes(network), {name: tuple(tensor.shape) for name, tensor in own.items()}
    )
    if missing or unexpected:
        raise WrongModelFile(
            f"download this {DRAFT} file again, it is incomplete or not the published one: {len(missing)} weights are "
            f"missing, {len(unexpected)} do not fit (the first is {(missing or unexpected)[0]})"
        )
    network.load_state_dict(own)
    return network.eval().requires_grad_(False)


def estimate_decoding(shape: Any, dtype: torch.dtype) -> float:
    """Bytes at the peak of decoding latents [B, 16, t, h, w]: the finished frames, and one latent frame being
    decoded."""
    frames, rows, columns = shape[-3], shape[-2] * 8, shape[-1] * 8
    return (2 * 4 * frames * 3 + 2000) * rows * columns * memory.dtype_size(dtype)


def load_vae(path: Path) -> EchoVideoVAE:
    """The VAE in `path`, CogVideoX's or the one for drafts. Raises WrongModelFile."""
    state, metadata = load_state(path)
    return load_draft(path, state) if is_draft(state) else take_vae(path, state, metadata)


def load_draft(path: Path, state: dict[str, Tensor]) -> DraftVAE:
    """The VAE for drafts with these weights. Raises WrongModelFile unless the file's name says taecvx: the ones for
    HunyuanVideo and Wan have the same shapes and would decode noise."""
    if DRAFT not in path.name:
        raise WrongModelFile(
            f"choose {DRAFT}.pth of github.com/madebyollin/taehv, under that name: {path.name} is a TAEHV decoder, and "
            f"only {DRAFT} reads CogVideoX latents"
        )
    return DraftVAE(state)
