"""EchoVideo as the host's MODEL: what it is made of, how it is sampled, and what it reads from a conditioning."""

from __future__ import annotations

from typing import Any

import comfy.conds
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.supported_models_base
import torch
import torch.nn.functional as F
from comfy.utils import repeat_to_batch_size
from torch import Tensor

from ...echovideo_model.errors import InvalidRequest, WrongModelFile
from ...echovideo_model.facts import ModelFacts, check_encoders_fit
from ...echovideo_model.limits import TRAIN_STEPS
from ...echovideo_model.samplers import SeededNoise
from ...echovideo_model.schedule import BETA_END, BETA_START
from ...echovideo_model.transformer import EchoVideoTransformer, TransformerSizes
from ...echovideo_model.vae.autoencoder import LATENT_SCALE
from .quantised import check_marks
from .regions import begins_later, find_crop, find_region, place_face, resize
from .transformer import HostTransformer

# What the conditioning node writes and this model reads; all of them raw, at the strengths the user chose.
FACE_TOKENS = "echovideo_face_tokens"  # [1, 196, 768]
ID_EMBEDDING = "echovideo_id_embedding"  # [1, 512]
FACE_LATENT = "echovideo_face_latent"  # [1, 16, 1, h, w], not yet scaled by 0.7
FACE_SPREAD = "echovideo_face_spread"  # the same: the posterior's deviation, 0 where only its mean is known
MADE_BY = "echovideo_face_encoders"  # the name of the face encoders that made the identity
KEYS = (FACE_TOKENS, ID_EMBEDDING, FACE_LATENT, FACE_SPREAD, MADE_BY)


class EchoVideoLatent(comfy.latent_formats.LatentFormat):
    """CogVideoX latents: 16 channels, one frame for every 4, scaled by 0.7 inside the model only."""

    latent_channels = 16
    latent_dimensions = 3
    scale_factor = LATENT_SCALE
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
        "linear_start": BETA_START,
        "linear_end": BETA_END,
        "timesteps": TRAIN_STEPS,
        "zsnr": True,
    }
    # Trained in bfloat16; float16 overflows in this family's activations and gives black frames.
    supported_inference_dtypes = [torch.bfloat16, torch.float32]  # noqa: RUF012

    def model_type(self, state_dict: dict[str, Tensor], prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION

    def inpaint_model(self) -> bool:
        return False

    def clip_target(self, state_dict: dict[str, Tensor] | None = None) -> None:
        """Our checkpoints contain no text encoder."""

    def get_model(
        self, state_dict: dict[str, Tensor], prefix: str = "", device: Any = None
    ) -> EchoVideoModel:
        return EchoVideoModel(self, device=device)


class FaceLatent(comfy.conds.CONDRegular):
    """The face latent [1, 16, 1, h, w] of a conditioning, already the size of its area, so that an area never crops
    it."""

    def process_cond(self, batch_size: int, **_: Any) -> FaceLatent:
        return type(self)(repeat_to_batch_size(self.cond, batch_size))


class EchoVideoModel(comfy.model_base.BaseModel):
    """v-prediction over 16 latent channels; the face enters through the context and the face latent."""

    def __init__(self, model_config: EchoVideoConfig, device: Any = None) -> None:
        kind = comfy.model_base.ModelType.V_PREDICTION
        super().__init__(model_config, kind, device=device, unet_model=HostTransformer)
        self.facts: ModelFacts | None = model_config.unet_config.get("facts")
        """What the file says of the training; None if the host does not pass it on."""

    def load_model_weights(
        self, sd: dict[str, Tensor], unet_prefix: str = "", **options: Any
    ) -> EchoVideoModel:
        own = {name.removeprefix(unet_prefix): sd[name] for name in sd if name.startswith(unet_prefix)}
        check_weights(own, self.diffusion_model.sizes)
        if comfy.model_management.cpu_mode() and self._take_mapped(own):
            for name in own:  # the host reports whatever stays in sd as left over
                del sd[unet_prefix + name]
            return self
        return super().load_model_weights(sd, unet_prefix, **options)

    def _take_mapped(self, state: dict[str, Tensor]) -> bool:
        """On a CPU the file's mapped memory itself serves as weights if the types agree, without a second copy of 11
        GB."""
        parameters = dict(self.diffusion_model.named_parameters())
        if any(name in parameters and parameters[name].dtype != state[name].dtype for name in state):
            return False
        if (
            not parameters.keys() <= state.keys()
        ):  # the host's quantised layers have none before they are loaded
            return False
        self.diffusion_model.load_state_dict(state, strict=False, assign=True)
        return True

    def apply_model(self, x: Tensor, t: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The denoised latents. Raises InvalidRequest at the first step that gives NaN."""
        denoised = super().apply_model(x, t, *args, **kwargs)
        if not denoised.isfinite().all():
            raise InvalidRequest(explain_nan(x, t, kwargs.get("transformer_options") or {}))
        return denoised

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """Once per conditioning entry and run, before the first step: IITF runs here and nowhere else.

        Raises InvalidRequest for an identity that other face encoders made than the model was trained with.
        """
        if MADE_BY in kwargs and self.facts is not None:
            check_encoders_fit(kwargs[MADE_BY], self.facts)
        out = super().extra_conds(**kwargs)
        out["c_crossattn"] = comfy.conds.CONDRegular(self._context(**kwargs))
        out["face_latent"] = FaceLatent(self._face_latent(**kwargs))
        return out

    def concat_cond(self, **kwargs: Any) -> None:
        return None  # the face latent goes in by its own name

    @torch.no_grad()
    def _context(self, device: torch.device, cross_attn: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The fused context [1, 226 k, 4096] of k prompts of 226 tokens, each fused with the same face.

        Without gradients, since the host's trainer detaches it, and prompts made for inference cannot carry any.
        """
        sizes = self.diffusion_model.iitf_sizes
        place = {"device": device, "dtype": self.manual_cast_dtype or self.get_dtype()}
        if place["dtype"].itemsize < 2:
            place["dtype"] = torch.bfloat16
        if cross_attn is None or cross_attn.shape[1] == 0:
            cross_attn = torch.zeros(1, sizes.text_tokens, sizes.text_width)
        if cross_attn.shape[-1] != sizes.text_width:
            raise InvalidRequest(
                "encode the prompt with Load EchoVideo Text Encoder: this encoding has width "
                f"{cross_attn.shape[-1]}, but EchoVideo needs {sizes.text_width}"
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
        fused = [self.diffusion_model.fuse(part, face_tokens, id_embedding) for part in parts]
        context = torch.cat(fused, dim=1)
        if not context.isfinite().all():
            source = "the encoded prompt" if not text.isfinite().all() else "the identity or the model's IITF"
            raise InvalidRequest(
                f"{source} holds NaN or infinity: encode the prompt and the identity again, or use "
                "other files if that does not help"
            )
        return context

    def _face_latent(
        self,
        device: torch.device,
        noise: Tensor,
        seed: int | None = None,
        area: tuple[int, ...] | None = None,
        mask: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """[1, 16, 1, H, W] at the size of the noise or of the entry's area, scaled like all latents, with the face in
        the middle of the area and mask; zeros when there is none, or frame 0 is not in them.

        As in the reference it is a sample of the VAE's posterior, the second thing that the run's seed draws.
        """
        crop = find_crop(area, *noise.shape[-2:])
        region = None if begins_later(area) else find_region(crop, mask)
        latent, spread = kwargs.get(FACE_LATENT), kwargs.get(FACE_SPREAD)
        if latent is None or region is None:  # the face is in the first frame, not in a later one
            return torch.zeros(1, noise.shape[1], 1, crop.height, crop.width, device=device)
        latent = latent.float()
        if spread is not None and seed is not None:
            drawn = SeededNoise(seed, noise.shape)
            drawn.initial()
            latent = latent + spread.to(latent) * drawn.face(latent.shape[-2:]).to(latent)
        if area is not None or mask is not None:
            latent = place_face(latent, crop, region)
        elif latent.shape[-2:] != noise.shape[-2:]:  # a second pass at another resolution
            latent = resize(latent, crop.height, crop.width)
        return self.process_latent_in(latent).to(device)


def list_released_shapes(sizes: TransformerSizes) -> dict[str, tuple[int, ...]]:
    """{parameter's name: shape}, asked of the plain network: the host's quantised layers are empty before loading."""
    with torch.device("meta"):
        return {
            name: tuple(weight.shape) for name, weight in EchoVideoTransformer(sizes).state_dict().items()
        }


def explain_nan(x: Tensor, sigma: Tensor, options: dict[str, Any]) -> str:
    """One sentence about a step that gave NaN or infinity: which one, why, and what to do."""
    schedule = options.get("sample_sigmas")
    level = float(sigma.flatten()[0])
    where = f"at noise level {level:g}"
    if schedule is not None:
        step = int((schedule[:-1].cpu() - level).abs().argmin()) + 1
        where = f"in step {step} of {len(schedule) - 1}"
    if not x.isfinite().all():
        return (
            f"the latents became NaN {where}, before the model saw them, because the sampler cannot "
            "follow this schedule: use EchoVideo Sampler with EchoVideo Scheduler, or another pair"
        )
    return (
        f"the model gave NaN or infinity {where}: run without LoRAs and patches, load the model as "
        "bf16, and download the file again if that fails (its weights, a LoRA or a patch are damaged, "
        "or the computation overflowed)"
    )


def check_weights(state: dict[str, Tensor], sizes: TransformerSizes) -> None:
    """Raises WrongModelFile if `state` lacks a weight, or holds one with another shape or in a form that cannot be
    read."""
    shapes = list_released_shapes(sizes)
    missing = [name for name in shapes if name not in state]
    if missing:
        raise WrongModelFile(
            f"download this EchoVideo file again, it is incomplete: {len(missing)} of {len(shapes)} weights are "
            f"missing (the first is {missing[0]})"
        )
    check_marks(state)
    for name, shape in shapes.items():
        quantised = name.removesuffix("weight") + "comfy_quant" in state
        if not quantised and tuple(state[name].shape) != shape:
            raise WrongModelFile(
                f"{name} has shape {list(state[name].shape)}, but EchoVideo's has {list(shape)}: the "
                "file belongs to another model"
            )
