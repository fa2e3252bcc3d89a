"""What to make and with whom: the identity joined to the prompts, the empty latent, and the video's size."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..echovideo_model.identity import Identity as IdentityData
from .host.conditioning import Conditioning, Strengths, condition, encode_face_latent
from .schema import Identity, schema

SIZES = {  # width, height: the five that the model was trained on
    "640 x 480": (640, 480),
    "848 x 480": (848, 480),
    "480 x 480": (480, 480),
    "480 x 848": (480, 848),
    "480 x 640": (480, 640),
}
FREE = "free"
FPS = 16.0
LENGTH_TOOLTIP = (
    "Frames of the video, one of 1, 5, 9, ... The model was trained on 49; longer ones need Context Windows."
)


def strength(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=1.5, step=0.05, tooltip=tooltip)


class EchoVideoConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EchoVideoConditioning",
            "EchoVideo Conditioning",
            description=(
                "Joins a person's identity to the prompts and makes the empty latent. Connect CLIP Text Encode (with "
                "Load EchoVideo Text Encoder) to positive and negative, EchoVideo Identity to identity, and all three "
                "outputs to a sampler. Without an identity the prompt alone decides who is seen."
            ),
            search_aliases=["iitf", "identity conditioning", "empty latent video"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt; it may be empty text."),
                io.Int.Input(
                    "width", default=640, min=64, max=4096, step=16, tooltip="Of the video, in pixels."
                ),
                io.Int.Input(
                    "height", default=480, min=64, max=4096, step=16, tooltip="Of the video, in pixels."
                ),
                io.Int.Input("length", default=49, min=1, max=1025, step=4, tooltip=LENGTH_TOOLTIP),
                io.Int.Input("batch_size", default=1, min=1, max=64, tooltip="Videos to make at once."),
                strength("id_strength", "How much of who it is (ArcFace). Lower it if the face looks stiff."),
                strength("face_strength", "How much of what the face looks like (SigLIP)."),
                strength(
                    "face_latent_strength",
                    "How much of the face picture in frame 0. Needs the VAE connected.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="When the identity sets in.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="When the identity ends."
                ),
                Identity.Input(
                    "identity", optional=True, tooltip="Who is to be seen, from EchoVideo Identity."
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="With it, the face picture also guides the first frame, which raises likeness; without "
                    "it, the face moves more freely.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with the identity."),
                io.Conditioning.Output(display_name="negative", tooltip="The negative prompt with nobody."),
                io.Latent.Output(display_name="latent", tooltip="The empty video, for the sampler."),
            ],
        )

    @classmethod
    def execute(
        cls,
        positive: Conditioning,
        negative: Conditioning,
        width: int,
        height: int,
        length: int,
        batch_size: int,
        id_strength: float,
        face_strength: float,
        face_latent_strength: float,
        start_percent: float,
        end_percent: float,
        identity: IdentityData | None = None,
        vae: object | None = None,
    ) -> io.NodeOutput:
        width, height = width // 16 * 16, height // 16 * 16
        face_latent = None
        shows_a_face = identity is not None and identity.face_picture.any()  # nobody's picture is black
        if shows_a_face and vae is not None and face_latent_strength > 0:
            face_latent = encode_face_latent(vae, identity, height, width)
        strengths = Strengths(id_strength, face_strength, face_latent_strength)
        both = condition(positive, negative, identity, face_latent, strengths, start_percent, end_percent)
        device = comfy.model_management.intermediate_device()
        shape = (batch_size, 16, (length - 1) // 4 + 1, height // 8, width // 8)
        return io.NodeOutput(*both, {"samples": torch.zeros(shape, device=device)})


class EchoVideoVideoSize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            "EchoVideoVideoSize",
            "EchoVideo Video Size",
            description=(
                "The video's size and length in one place. Choose one of the five sizes that EchoVideo was trained "
                "on, or free. Connect width, height and length to EchoVideo Conditioning and fps to Create Video."
            ),
            search_aliases=["resolution", "frames", "seconds"],
            inputs=[
                io.Combo.Input(
                    "size",
                    options=[*SIZES, FREE],
                    default="640 x 480",
                    tooltip="Width x height in pixels; free takes the two numbers below.",
                ),
                io.Int.Input(
                    "free_width", default=640, min=64, max=4096, step=16, tooltip="Used when size is free."
                ),
                io.Int.Input(
                    "free_height", default=480, min=64, max=4096, step=16, tooltip="Used when size is free."
                ),
                io.Combo.Input(
                    "measure",
                    options=["frames", "seconds"],
                    default="frames",
                    tooltip="Which of the two numbers below gives the length.",
                ),
                io.Int.Input("frames", default=49, min=1, max=1025, step=4, tooltip=LENGTH_TOOLTIP),
                io.Float.Input(
                    "seconds", default=3.0, min=0.1, max=64.0, step=0.25, tooltip="At 16 frames per second."
                ),
            ],
            outputs=[
                io.Int.Output(display_name="width", tooltip="Pixels."),
                io.Int.Output(display_name="height", tooltip="Pixels."),
                io.Int.Output(display_name="length", tooltip="Frames, rounded to 4n + 1."),
                io.Float.Output(display_name="fps", tooltip="16, what the model was trained on."),
                io.Float.Output(display_name="duration", tooltip="Seconds, after rounding."),
            ],
        )

    @classmethod
    def execute(
        cls, size: str, free_width: int, free_height: int, measure: str, frames: int, seconds: float
    ) -> io.NodeOutput:
        width, height = SIZES.get(size, (free_width // 16 * 16, free_height // 16 * 16))
        wanted = frames if measure == "frames" else seconds * FPS
        length = 4 * max(0, round((wanted - 1) / 4)) + 1
        return io.NodeOutput(width, height, length, FPS, length / FPS)
