"""EchoVideo as the host's MODEL: what it is made of, how it is sampled, and what it reads from a conditioning."""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import comfy.utils
import torch
import torch.nn.functional as F
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest, WrongModelFile
from ...echovideo_model.samplers import cpu_noise
from ...echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from .transformer import HostTransformer

# What the conditioning node writes and this model reads; all of them raw, at the strengths the user chose.
FACE_TOKENS = "echovideo_face_tokens"  # [1, 196, 768]
ID_EMBEDDING = "echovideo_id_embedding"  # [1, 512]
FACE_LATENT = "echovideo_face_latent"  # [1, 16, 1, h, w], not yet scaled by 0.7
FACE_SPREAD = (
    "echovideo_face_spread"  # the same shape: the posterior's deviation, 0 where only its mean is known
)


class EchoVideoLatent(comfy.latent_formats.LatentFormat):
    """CogVideoX latents: 16 channels, one frame for every 4, scaled by 0.7 inside the model only."""

    latent_channels = 16
    latent_dimensions = 3
    scale_factor = 0.7
    temporal_downscale_ratio = 4
    spacial_downscale_ratio = 8


class EchoVideoConfig(comfy.supported_models_base.BASE):
    """The entry in the host's table of models: `unet_config` is what detection returns for our files."""

    unet_config = {"image_model": "echovideo"}  # noqa: RUF012
    unet_extra_config = {}  # noqa: RUF012
    latent_format = EchoVideoLatent
    memory_usage_factor = 2.0
    # The host's "linear" is what diffusers calls scaled-linear; with zsnr and v-prediction, CogVideoX's schedule.
    sampling_settings = {  # noqa: RUF012
        "beta_schedule": "linear",
        "linear_start": 0.00085,
        "linear_end": 0.012,
        "timesteps": 1000,
        "zsnr": True,
    }
    # Trained in bfloat16; float16 overflows in this family's activations and gives black frames.
    supported_inference_dtypes = [torch.bfloat16, torch.float32]  # noqa: RUF012

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        return False

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> None:
        """No text encoder comes with our checkpoints."""

    def get_model(
        self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None
    ) -> EchoVideoModel:
        return EchoVideoModel(self, device=device)


class FaceLatent(comfy.conds.CONDRegular):
    """The face latent [1, 16, 1, h, w] of a conditioning: cut in space by area conditioning, never in time."""

    def process_cond(self, batch_size: int, area: Any = None, **_: Any) -> FaceLatent:
        latent = self.cond
        if area is not None:  # (T, H, W, t0, y0, x0)
            half = len(area) // 2
            latent = latent.narrow(-2, area[-2], area[half - 2]).narrow(-1, area[-1], area[half - 1])
        return type(self)(repeat_to_batch_size(latent, batch_size))


class EchoVideoModel(comfy.model_base.BaseModel):
    """v-prediction over 16 latent channels; the face enters through the context and the face latent."""

    def __init__(self, model_config: EchoVideoConfig, device: Any = None) -> None:
        kind = comfy.model_base.ModelType.V_PREDICTION
        super().__init__(model_config, kind, device=device, unet_model=HostTransformer)

    def load_model_weights(
        self, sd: dict[str, Tensor], unet_prefix: str = "", **options: Any
    ) -> EchoVideoModel:
        names = list(released_shapes(self.diffusion_model.sizes))
        missing = [name for name in names if unet_prefix + name not in sd]
        if missing:
            raise WrongModelFile(
                f"this EchoVideo file is not complete: {len(missing)} of {len(names)} weights are missing, the first "
                f"is {missing[0]}; download it again"
            )
        packed = next((name for name in names if not readable(sd, unet_prefix + name)), None)
        if packed is not None:
            raise WrongModelFile(
                "this file is quantised in a way that is not read here "
                f"({packed} is {sd[unet_prefix + packed].dtype}): choose one in bf16 or fp8"
            )
        if comfy.model_management.cpu_mode() and self._take_mapped(
            {name: sd[unet_prefix + name] for name in names}
        ):
            for name in names:  # what stays in sd, the host reports as left over
                del sd[unet_prefix + name]
            return self
        return super().load_model_weights(sd, unet_prefix, **options)

    def _take_mapped(self, state: dict[str, Tensor]) -> bool:
        """On a CPU the file's own mapped memory serves as weights, where the types agree: no second copy of 11 GB."""
        parameters = dict(self.diffusion_model.named_parameters())
        if any(name not in parameters or parameters[name].dtype != state[name].dtype for name in state):
            return False
        self.diffusion_model.load_state_dict(state, assign=True)
        return True

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Once per conditioning entry and run, before the first step: IITF runs here and nowhere else."""
        out = super().extra_conds(**kwargs)
        out["c_crossattn"] = comfy.conds.CONDRegular(self._context(**kwargs))
        out["face_latent"] = FaceLatent(self._face_latent(**kwargs))
        return out

    def concat_cond(self, **kwargs: Any) -> None:
        return None  # the face latent goes in by its own name

    def _context(self, device: torch.device, cross_attn: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The fused context [1, 226 k, 4096] of k prompts of 226 tokens, each fused with the same face."""
        sizes = self.diffusion_model.iitf_sizes
        place = {"device": device, "dtype": self.manual_cast_dtype or self.get_dtype()}
        if place["dtype"].itemsize < 2:
            place["dtype"] = torch.bfloat16
        if cross_attn is None or cross_attn.shape[1] == 0:
            cross_attn = torch.zeros(1, sizes.text_tokens, sizes.text_width)
        if cross_attn.shape[-1] != sizes.text_width:
            raise InvalidRequest(
                f"this prompt was encoded {cross_attn.shape[-1]} numbers wide, EchoVideo reads T5-XXL's "
                f"{sizes.text_width}: encode it with Load EchoVideo Text Encoder"
            )
        face_tokens, id_embedding = kwargs.get(FACE_TOKENS), kwargs.get(ID_EMBEDDING)
        if face_tokens is None:
            face_tokens = torch.zeros(1, sizes.face_tokens, sizes.face_width)
        if id_embedding is None:
            id_embedding = torch.zeros(1, sizes.id_width)
        text = cross_attn.to(**place)
        text = F.pad(text, (0, 0, 0, -text.shape[1] % sizes.text_tokens))
        face_tokens = repeat_to_batch_size(face_tokens.to(**place), len(text))
        id_embedding = repeat_to_batch_size(id_embedding.to(**place), len(text))
        parts = text.split(sizes.text_tokens, dim=1)
        return torch.cat(
            [self.diffusion_model.fuse(part, face_tokens, id_embedding) for part in parts], dim=1
        )

    def _face_latent(
        self, device: torch.device, noise: Tensor, seed: int | None = None, **kwargs: Any
    ) -> Tensor:
        """[1, 16, 1, H, W] at the noise's size, scaled like all latents; zeros when there is none.

        As in the reference it is a sample of the VAE's posterior, the second thing that the run's seed draws.
        """
        size = noise.shape[-2:]
        latent, spread = kwargs.get(FACE_LATENT), kwargs.get(FACE_SPREAD)
        if latent is None:
            return torch.zeros(1, noise.shape[1], 1, *size, device=device)
        latent = latent.float()
        if spread is not None and seed is not None:
            generator = after_initial_noise(seed, tuple(noise.shape))
            latent = latent + spread.to(latent) * cpu_noise(tuple(latent.shape), generator).to(latent)
        if latent.shape[-2:] != size:  # a second pass at another resolution
            latent = F.interpolate(latent[:, :, 0], size=size, mode="bilinear", antialias=True)[:, :, None]
        return self.process_latent_in(latent).to(device)


def released_shapes(sizes: TransformerSizes) -> dict[str, tuple[int, ...]]:
    """{parameter's name: shape}, asked of the plain network: the host's quantised layers are empty before loading."""
    with torch.device("meta"):
        return {
            name: tuple(weight.shape) for name, weight in EchoVideoTransformer(sizes).state_dict().items()
        }


def readable(state: dict[str, Tensor], name: str) -> bool:
    """Whether a weight is made of numbers as they are, or is quantised in the form that this host writes itself."""
    known = (
        hasattr(comfy.utils, "convert_old_quants") and name.removesuffix("weight") + "comfy_quant" in state
    )
    return known or state[name].is_floating_point()


def after_initial_noise(seed: int, shape: tuple[int, ...]) -> torch.Generator:
    """The reference's one generator for a run, when it has drawn the initial noise [B, 16, T, H, W]."""
    generator = torch.Generator().manual_seed(seed)
    cpu_noise(shape, generator)
    return generator
