"""What every shipped workflow is: its title, what it is for, and its graph, with only the inputs that matter."""

from __future__ import annotations

from typing import Any

from echovideo_model.nano.models import FILES
from testbed.graphs import Graph, node, out

TRANSFORMER = "echovideo-00001-of-00002.safetensors"
PROMPT = (
    "A woman with curly hair and golden earrings sits at a cafe table by the window, lifts a cup of coffee, takes a "
    "sip and smiles. Warm morning light, shallow depth of field, slow camera movement, realistic."
)
NEGATIVE = "blurry, distorted face, deformed hands, low quality, static"
NANO_PROMPT = "A woman in a yellow pullover smiles at the camera in a sunny park."
TITLES = {
    "prompt": "Prompt",
    "negative": "Negative prompt",
    "cond_without": "Without the face latent",
    "latents_without": "KSampler without it",
    **{
        f"{name}_{side}": f"{side.capitalize()}: {title}"
        for side in ("left", "right")
        for name, title in (
            ("prompt", "prompt"),
            ("photo", "photo"),
            ("cond", "conditioning"),
            ("positive", "prompt area"),
            ("negative", "negative area"),
            ("score", "identity score"),
        )
    },
    "positive": "Both prompts",
    "negatives": "Both negatives",
}
TWO_PROMPTS = {
    "left": "A young woman with curly hair and golden earrings sits at a cafe table, talks and smiles. ",
    "right": "A young man with short red hair and a green sweater sits at a cafe table, listens and nods. ",
}
SCENE = "Warm morning light, static camera, realistic."


def loaders(weight_dtype: str = "default", raw_prompt: bool = False) -> Graph:
    return {
        "model": node("EchoVideoLoadModel", model_name=TRANSFORMER, weight_dtype=weight_dtype),
        "clip": node(
            "EchoVideoLoadTextEncoder", text_encoder_name="t5xxl_fp16.safetensors", raw_prompt=raw_prompt
        ),
        "vae": node("EchoVideoLoadVAE", vae_name="cogvideox_vae.safetensors"),
        "faces": node(
            "EchoVideoLoadFaceEncoders",
            parser_name="parsing_bisenet.pth",
            siglip_name="siglip-base-patch16-224.safetensors",
        ),
        "prompt": node("CLIPTextEncode", clip=out("clip"), text=PROMPT),
        "negative": node("CLIPTextEncode", clip=out("clip"), text=NEGATIVE),
        "photo": node("LoadImage", image="portrait.png"),
    }


def person(photos: str = "photo") -> Graph:
    return {"identity": node("EchoVideoIdentity", face_encoders=out("faces"), photos=out(photos))}


def size(frames: int = 49) -> Graph:
    return {"size": node("EchoVideoVideoSize", size="640 x 480", frames=frames)}


def cond(name: str = "cond", **changed: Any) -> Graph:
    links = {
        "positive": out("prompt"),
        "negative": out("negative"),
        "identity": out("identity"),
        "vae": out("vae"),
    }
    sizes = {"width": out("size", 0), "height": out("size", 1), "length": out("size", 2)}
    inputs = {**links, **sizes, **changed}
    return {
        name: node(
            "EchoVideoConditioning", **{key: value for key, value in inputs.items() if value is not None}
        )
    }


def ksampler(
    model: str = "model", conditioning: str = "cond", name: str = "latents", steps: int = 25
) -> Graph:
    links = {
        "positive": out(conditioning, 0),
        "negative": out(conditioning, 1),
        "latent_image": out(conditioning, 2),
    }
    settings = {"seed": 42, "steps": steps, "cfg": 6.0, "sampler_name": "euler", "scheduler": "simple"}
    return {name: node("KSampler", model=out(model), **links, **settings)}


def film(latents: str = "latents", tail: str = "") -> Graph:
    return {
        f"frames{tail}": node("VAEDecode", samples=out(latents), vae=out("vae")),
        f"film{tail}": node("CreateVideo", images=out(f"frames{tail}"), fps=out("size", 3)),
        f"save{tail}": node("SaveVideo", video=out(f"film{tail}"), filename_prefix=f"video/EchoVideo{tail}"),
    }


def reference() -> Graph:
    guider = {"model": out("guided"), "positive": out("cond", 0), "negative": out("cond", 1), "cfg": 6.0}
    return {
        "guided": node("EchoVideoDynamicGuidance", model=out("model"), form="reference", steps=0),
        "noise": node("EchoVideoNoise", noise_seed=42),
        "guider": node("CFGGuider", **guider),
        "sampler": node("EchoVideoSampler", sampler="reference DPM"),
        "sigmas": node("EchoVideoScheduler", model=out("model"), steps=50, denoise=1.0),
        "latents": node(
            "SamplerCustomAdvanced",
            noise=out("noise"),
            guider=out("guider"),
            sampler=out("sampler"),
            sigmas=out("sigmas"),
            latent_image=out("cond", 2),
        ),
    }


def low_memory() -> Graph:
    tiled = {"tile_size": 256, "overlap": 64, "temporal_size": 64, "temporal_overlap": 8}
    graph = loaders("fp8_e4m3fn") | person() | size() | cond() | ksampler() | film()
    graph["keep"] = node("SaveLatent", samples=out("latents"), filename_prefix="latents/EchoVideo")
    return graph | {"frames": node("VAEDecodeTiled", samples=out("latents"), vae=out("vae"), **tiled)}


def several_photos() -> Graph:
    photos = {
        "second": node("LoadImage", image="second_portrait.png"),
        "photos": node("ImageBatch", image1=out("photo"), image2=out("second")),
    }
    graph = loaders() | photos | person("photos") | size() | cond() | ksampler() | film()
    graph["keep"] = node("EchoVideoSaveIdentity", identity=out("identity"), filename_prefix="person")
    return graph


def compare() -> Graph:
    without = cond("cond_without", vae=None) | ksampler(conditioning="cond_without", name="latents_without")
    both = loaders() | person() | size() | cond() | ksampler() | without
    return both | film(tail="_with_face_latent") | film("latents_without", tail="_without_face_latent")


def lora() -> Graph:
    name, strength = "cogvideox_lora.safetensors", 1.0
    adapted = node("LoraLoaderModelOnly", model=out("model"), lora_name=name, strength_model=strength)
    return loaders() | {"adapted": adapted} | person() | size() | cond() | ksampler("adapted") | film()


def identity_score() -> Graph:
    score = {"frames": out("frames"), "identity": out("identity"), "face_encoders": out("faces"), "every": 4}
    graph = loaders() | person() | size() | cond() | ksampler() | film()
    graph["score"] = node("EchoVideoIdentityScore", **score)
    return graph | {"mean": node("PreviewAny", source=out("score", 0))}


def long_video() -> Graph:
    window = {"context_length": 13, "context_overlap": 4, "context_schedule": "standard_static", "dim": 2}
    windows = node("ContextWindowsManual", model=out("model"), **window)
    return loaders() | {"windows": windows} | person() | size(97) | cond() | ksampler("windows") | film()


def two_people() -> Graph:
    graph = loaders()
    for name in ("prompt", "photo"):
        del graph[name]
    graph |= person_in_half("left", "portrait.png") | person_in_half("right", "second_portrait.png") | size()
    for name, branch in (("positive", "positive"), ("negatives", "negative")):
        both = {"conditioning_1": out(f"{branch}_left"), "conditioning_2": out(f"{branch}_right")}
        graph[name] = node("ConditioningCombine", **both)
    graph |= ksampler() | film()
    ends = {"positive": out("positive"), "negative": out("negatives"), "latent_image": out("cond_left", 2)}
    graph["latents"]["inputs"].update(ends)
    for side in TWO_PROMPTS:
        person = {"identity": out(f"identity_{side}"), "region": out(f"positive_{side}")}
        settings = {"face_encoders": out("faces"), "every": 4, "name": f"The person on the {side}"}
        graph[f"score_{side}"] = node("EchoVideoIdentityScore", frames=out("frames"), **person, **settings)
    return graph


def person_in_half(side: str, photo: str) -> Graph:
    """Prompt, photo, identity and conditioning of one person, both branches limited to one half of the video."""
    half = {"width": 0.5, "height": 1.0, "temporal": 1.0, "x": {"left": 0.0, "right": 0.5}[side], "y": 0.0}
    names = {"positive": out(f"prompt_{side}"), "identity": out(f"identity_{side}")}
    photos = {"face_encoders": out("faces"), "photos": out(f"photo_{side}")}
    areas = {
        f"{branch}_{side}": node(
            "ConditioningSetAreaPercentageVideo",
            conditioning=out(f"cond_{side}", number),
            **half,
            z=0.0,
            strength=1.0,
        )
        for number, branch in enumerate(("positive", "negative"))
    }
    return {
        f"photo_{side}": node("LoadImage", image=photo),
        f"identity_{side}": node("EchoVideoIdentity", **photos),
        f"prompt_{side}": node("CLIPTextEncode", clip=out("clip"), text=TWO_PROMPTS[side] + SCENE),
        **cond(f"cond_{side}", **names),
        **areas,
    }


def try_it() -> Graph:
    chosen = {
        "model": {"model_name": FILES["transformer"]},
        "clip": {"text_encoder_name": FILES["text_encoder"]},
        "vae": {"vae_name": FILES["vae"]},
        "faces": {"parser_name": FILES["face_encoder"], "siglip_name": FILES["clip_visual_encoder"]},
        "photo": {"image": "echovideo_nano_portrait.png"},
        "prompt": {"text": NANO_PROMPT},
        "negative": {"text": ""},
        "size": {"size": "free", "free_width": 128, "free_height": 128, "frames": 17},
        "latents": {"steps": 20, "cfg": 2.5},
        "film": {
            "images": out("large"),
            "fps": 8.0,
        },  # half of what it was trained on, so that there is more to see
    }
    large = node("ImageScaleBy", image=out("frames"), upscale_method="lanczos", scale_by=3.0)
    graph = loaders() | person() | size() | cond() | ksampler() | {"large": large} | film()
    for name, inputs in chosen.items():
        graph[name]["inputs"] |= inputs
    return graph


# Name -> title, what it is for, graph. The page lists templates under their files' names, so a title is a file
# name: a sentence after the number of its place in the list.
WORKFLOWS = {
    "try_it": (
        "01 Try it with a drawn person, nothing to download",
        "A small model that comes with the pack shows a drawn person, in about a minute without a GPU.",
        try_it(),
    ),
    "quick_start": (
        "02 Make a video of a person from one photo",
        "A photo and a sentence become three seconds of video of that person.",
        loaders() | person() | size() | cond() | ksampler() | film(),
    ),
    "reference_settings": (
        "10 Repeat the published settings exactly",
        "ByteDance's own: 50 steps, DPM, dynamic guidance 6, noise in their order. A seed gives the same video as the "
        "command line.",
        loaders(raw_prompt=True) | person() | size() | cond() | reference() | film(),
    ),
    "low_memory": (
        "06 Make a video with less memory",
        "fp8 weights and tiled decoding. The latents are kept in a file before they are decoded.",
        low_memory(),
    ),
    "several_photos": (
        "04 Use several photos of one person",
        "Embeddings are averaged, the picture comes from the best photo. The identity is kept in a file.",
        several_photos(),
    ),
    "compare_face_latent": (
        "08 Compare with and without the face latent",
        "The same seed twice: the face picture in frame 0 raises likeness, its absence frees the motion.",
        compare(),
    ),
    "lora": (
        "07 Add a LoRA",
        "Any LoRA for CogVideoX-5b: put it into models/loras and choose it in the LoRA node. The log says how many of "
        "its layers fit.",
        lora(),
    ),
    "identity_score": (
        "09 Score how alike the person is",
        "How alike the person in the video and the photo are, frame by frame.",
        identity_score(),
    ),
    "two_people": (
        "03 Put two people into one video",
        "Each half has its own photo and prompt: describe the same scene in both. For other regions, change all four "
        "areas.",
        two_people(),
    ),
    "long_video": (
        "05 Make a longer video",
        "Experimental: 97 frames in windows of 49, which overlap by 13. Batches of one only.",
        long_video(),
    ),
}
