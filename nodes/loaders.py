"""Loads the transformer, the text encoder and the VAE. The host's own Load Diffusion Model also works."""

from __future__ import annotations

from comfy_api.latest import io

from .host import folders
from .host.clip import load_clip
from .host.draft import load_vae
from .host.loading import WEIGHT_DTYPES, load_model
from .schema import make_schema


class LoadEchoVideoModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoLoadModel",
            "Load EchoVideo Model",
            description=(
                "Loads EchoVideo's transformer as an ordinary MODEL. Takes one file or the first of "
                "the released parts (…-00001-of-0000N). Connect it to any sampler, optionally through "
                "EchoVideo Dynamic Guidance."
            ),
            search_aliases=["echovideo", "identity video", "load diffusion model"],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=folders.list_files(folders.DIFFUSION_MODELS),
                    tooltip="A file in models/diffusion_models. If the model has several parts, choose the "
                    "first.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(WEIGHT_DTYPES),
                    default="default",
                    tooltip="default keeps the weights as in the file (bf16: 11.24 GB). fp8 takes 6.49 GB with "
                    "little loss; fp8_e4m3fn_fast also computes in fp8, on RTX 40 and newer.",
                ),
            ],
            outputs=[
                io.Model.Output(
                    display_name="model", tooltip="EchoVideo, for any sampler of v-prediction models."
                )
            ],
        )

    @classmethod
    def execute(cls, model_name: str, weight_dtype: str) -> io.NodeOutput:
        return io.NodeOutput(load_model(folders.resolve(folders.DIFFUSION_MODELS, model_name), weight_dtype))

    @classmethod
    def validate_inputs(cls, model_name: str | None = None) -> bool | str:
        return folders.check({folders.DIFFUSION_MODELS: model_name})


class LoadEchoVideoTextEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoLoadTextEncoder",
            "Load EchoVideo Text Encoder",
            description=(
                "Loads T5-XXL as a CLIP that always gives 226 tokens, as EchoVideo was trained. Use it with CLIP Text "
                "Encode for the prompt and the negative prompt. Any T5-XXL file works: fp16, bf16, fp8, scaled fp8."
            ),
            search_aliases=["t5", "t5xxl", "load clip"],
            inputs=[
                io.Combo.Input(
                    "text_encoder_name",
                    options=folders.list_files(folders.TEXT_ENCODERS),
                    tooltip="A T5-XXL file in models/text_encoders, such as t5xxl_fp16.safetensors.",
                ),
                io.Boolean.Input(
                    "raw_prompt",
                    default=False,
                    tooltip="On: parentheses in the prompt are ordinary characters, as in the reference. "
                    "Off: (word:1.2) gives a word more weight, as elsewhere in ComfyUI.",
                ),
            ],
            outputs=[io.Clip.Output(display_name="clip", tooltip="The text encoder, for CLIP Text Encode.")],
        )

    @classmethod
    def execute(cls, text_encoder_name: str, raw_prompt: bool) -> io.NodeOutput:
        return io.NodeOutput(load_clip(folders.resolve(folders.TEXT_ENCODERS, text_encoder_name), raw_prompt))

    @classmethod
    def validate_inputs(cls, text_encoder_name: str | None = None) -> bool | str:
        return folders.check({folders.TEXT_ENCODERS: text_encoder_name})


class LoadEchoVideoVAE(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoLoadVAE",
            "Load EchoVideo VAE",
            description=(
                "Loads the CogVideoX VAE. Connect it to VAE Decode (or VAE Decode Tiled if memory is "
                "short) for the video, and to EchoVideo Conditioning for the face latent."
            ),
            search_aliases=["cogvideox vae", "load vae"],
            inputs=[
                io.Combo.Input(
                    "vae_name",
                    options=folders.list_files(folders.VAE),
                    tooltip="The CogVideoX VAE in models/vae.",
                )
            ],
            outputs=[io.Vae.Output(display_name="vae", tooltip="The video autoencoder, for VAE Decode.")],
        )

    @classmethod
    def execute(cls, vae_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_vae(folders.resolve(folders.VAE, vae_name)))

    @classmethod
    def validate_inputs(cls, vae_name: str | None = None) -> bool | str:
        return folders.check({folders.VAE: vae_name})
