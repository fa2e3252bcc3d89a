"""Graphs in the API's form, written the way people think of them: nodes by name, links by node and output."""

from __future__ import annotations

from typing import Any

from testbed import checkpoints

Graph = dict[str, dict[str, Any]]
Link = list[Any]


def node(kind: str, /, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def out(name: str, number: int = 0) -> Link:
    """Output `number` of node `name`."""
    return [name, number]


def loaders(weight_dtype: str = "default") -> Graph:
    return {
        "model": node("EchoVideoLoadModel", model_name=checkpoints.TRANSFORMER, weight_dtype=weight_dtype),
        "clip": node(
            "EchoVideoLoadTextEncoder", text_encoder_name=checkpoints.TEXT_ENCODER, raw_prompt=False
        ),
        "vae": node("EchoVideoLoadVAE", vae_name=checkpoints.VAE),
    }


def prompts(prompt: str = "a person smiling in a garden", negative: str = "") -> Graph:
    return {
        "prompt": node("CLIPTextEncode", clip=out("clip"), text=prompt),
        "negative": node("CLIPTextEncode", clip=out("clip"), text=negative),
    }


def identity(photo: str = checkpoints.PHOTOS[0], **choice: Any) -> Graph:
    settings = {"face_order": "largest", "face_index": 0, "padding": 0.0, "on_no_face": "error", **choice}
    return {
        "faces": node(
            "EchoVideoLoadFaceEncoders", parser_name=checkpoints.PARSER, siglip_name=checkpoints.SIGLIP
        ),
        "photo": node("LoadImage", image=photo),
        "identity": node("EchoVideoIdentity", face_encoders=out("faces"), photos=out("photo"), **settings),
    }


def conditioning(
    width: int = 96, height: int = 64, length: int = 9, positive: str = "prompt", **changed: Any
) -> Graph:
    settings: dict[str, Any] = {
        "width": width,
        "height": height,
        "length": length,
        "batch_size": 1,
        "id_strength": 1.0,
        "face_strength": 1.0,
        "face_latent_strength": 1.0,
        "start_percent": 0.0,
        "end_percent": 1.0,
        **changed,
    }
    return {
        "cond": node("EchoVideoConditioning", positive=out(positive), negative=out("negative"), **settings)
    }


def sampled(model: str = "model", seed: int = 1, steps: int = 4, **changed: Any) -> Graph:
    """KSampler's latents under the name "latents", kept in a file by "saved"."""
    settings: dict[str, Any] = {
        "seed": seed,
        "steps": steps,
        "cfg": 6.0,
        "sampler_name": "euler",
        "scheduler": "simple",
        "denoise": 1.0,
        "positive": out("cond", 0),
        "negative": out("cond", 1),
        "latent_image": out("cond", 2),
        **changed,
    }
    return {"latents": node("KSampler", model=out(model), **settings)} | saved("latents")


def saved(name: str) -> Graph:
    return {f"{name}_saved": node("SaveLatent", samples=out(name), filename_prefix=name)}


def plain(**changed: Any) -> Graph:
    """Prompt to latents without a person: the shortest complete graph."""
    return loaders() | prompts() | conditioning() | sampled(**changed)


def with_person(**changed: Any) -> Graph:
    """Photo and prompt to latents."""
    cond = conditioning(identity=out("identity"), vae=out("vae"))
    return loaders() | prompts() | identity() | cond | sampled(**changed)


def video(latents: str = "latents") -> Graph:
    return {
        "frames": node("VAEDecode", samples=out(latents), vae=out("vae")),
        "clip_of_frames": node("CreateVideo", images=out("frames"), fps=16.0),
        "video": node(
            "SaveVideo", video=out("clip_of_frames"), filename_prefix="video", format="mp4", codec="h264"
        ),
    }
