"""What to make and with whom: the identity joined to the prompts, the empty latent, and the video's size."""

from __future__ import annotations

import comfy.model_management
import torch
from comfy_api.latest import io

from ..echovideo_model.identity import Identity as IdentityData
from ..echovideo_model.limits import (
    FPS,
    FRAME_STEP,
    MAX_FRAMES,
    MAX_SIDE,
    MAX_STRENGTH,
    MIN_SIDE,
    SIDE_STEP,
    TRAINED_FRAMES,
    TRAINED_SIZES,
)
from ..echovideo_model.request import latent_shape
from .host.conditioning import Conditioning, Strengths, condition, encode_face_latent
from .schema import Identity, make_schema

SIZES = {f"{width} x {height}": (width, height) for height, width in TRAINED_SIZES}
FREE = "free"
LENGTH_TOOLTIP = (
    f"Number of frames: 1, 5, 9, ... The model was trained on {TRAINED_FRAMES}; longer videos need "
    "Context Windows."
)


def make_side_input(name: str, default: int, tooltip: str) -> io.Int.Input:
    return io.Int.Input(name, default=default, min=MIN_SIDE, max=MAX_SIDE, step=SIDE_STEP, tooltip=tooltip)


def round_length(frames: float) -> int:
    """The nearest number of frames that the VAE can make: 4n + 1."""
    return FRAME_STEP * max(0, round((frames - 1) / FRAME_STEP)) + 1


def make_length_input(name: str) -> io.Int.Input:
    return io.Int.Input(
        name, default=TRAINED_FRAMES, min=1, max=MAX_FRAMES, step=FRAME_STEP, tooltip=LENGTH_TOOLTIP
    )


def make_strength_input(name: str, tooltip: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=0.0, max=MAX_STRENGTH, step=0.05, tooltip=tooltip)


def round_down(pixels: int) -> int:
    return pixels // SIDE_STEP * SIDE_STEP


class EchoVideoConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            "EchoVideoConditioning",
            "EchoVideo Conditioning",
            description=(
                "Joins a person's identity to the prompts and makes the empty latent. Connect CLIP "
                "Text Encode (with Load EchoVideo Text Encoder) to positive and negative, EchoVideo "
                "Identity to identity, and all three outputs to a sampler. Without an identity, the "
                "prompt alone decides who appears."
            ),
            search_aliases=["iitf", "identity conditioning", "empty latent video"],
            inputs=[
                io.Conditioning.Input("positive", tooltip="The prompt."),
                io.Conditioning.Input("negative", tooltip="The negative prompt; it may be empty."),
                make_side_input("width", 640, "Width of the video in pixels."),
                make_side_input("height", 480, "Height of the video in pixels."),
                make_length_input("length"),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of videos to make at once. Put Rebatch Latents before VAE Decode, or they "
                    "all end up in one file.",
                ),
                make_strength_input(
                    "id_strength",
                    "Strength of who the person is (ArcFace). Lower it if the face looks stiff.",
                ),
                make_strength_input("face_strength", "Strength of what the face looks like (SigLIP)."),
                make_strength_input(
                    "face_latent_strength",
                    "Strength of the face picture in frame 0. Needs the VAE connected.",
                ),
                io.Float.Input(
                    "start_percent",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="When the identity starts to act.",
                ),
                io.Float.Input(
                    "end_percent",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="When the identity stops acting.",
                ),
                Identity.Input(
                    "identity", optional=True, tooltip="The person to show, from EchoVideo Identity."
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="If connected, the face picture also guides the first frame, which raises "
                    "likeness; if not, the face moves more freely.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive", tooltip="The prompt with the identity."),
                io.Conditioning.Output(
                    display_name="negative", tooltip="The negative prompt without a person."
                ),
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
        width, height = round_down(width), round_down(height)
        face_latent = None
        shows_a_face = identity is not None and identity.face_picture.any()  # black is the picture of nobody
        if shows_a_face and vae is not None and face_latent_strength > 0:
            face_latent = encode_face_latent(vae, identity, height, width)
        strengths = Strengths(id_strength, face_strength, face_latent_strength)
        both = condition(positive, negative, identity, face_latent, strengths, start_percent, end_percent)
        device = comfy.model_management.intermediate_device()
        shape = latent_shape(round_length(length), height, width, batch_size)
        return io.NodeOutput(*both, {"samples": torch.zeros(shape, device=device)})


class EchoVideoVideoSize(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
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
                    tooltip="Width x height in pixels; free uses the two numbers below.",
                ),
                make_side_input("free_width", 640, "Used when size is free."),
                make_side_input("free_height", 480, "Used when size is free."),
                io.Combo.Input(
                    "measure",
                    options=["frames", "seconds"],
                    default="frames",
                    tooltip="Which of the two numbers below sets the length.",
                ),
                make_length_input("frames"),
                io.Float.Input(
                    "seconds",
                    default=3.0,
                    min=0.1,
                    max=MAX_FRAMES // FPS,
                    step=0.25,
                    tooltip=f"At {FPS:g} frames per second.",
                ),
            ],
            outputs=[
                io.Int.Output(display_name="width", tooltip="Pixels."),
                io.Int.Output(display_name="height", tooltip="Pixels."),
                io.Int.Output(display_name="length", tooltip="Frames, rounded to 4n + 1."),
                io.Float.Output(display_name="fps", tooltip=f"{FPS:g}, as the model was trained."),
                io.Float.Output(display_name="duration", tooltip="Seconds, after rounding."),
            ],
        )

    @classmethod
    def execute(
        cls, size: str, free_width: int, free_height: int, measure: str, frames: int, seconds: float
    ) -> io.NodeOutput:
        width, height = SIZES.get(size, (round_down(free_width), round_down(free_height)))
        wanted = frames if measure == "frames" else seconds * FPS
        length = round_length(wanted)
        return io.NodeOutput(width, height, length, FPS, length / FPS)
