#!/usr/bin/env python3
"""Writes workflows/*.json (drag and drop), workflows/api/*.json (for POST /prompt) and the thumbnails.

    COMFYUI_PATH=... python scripts/make_workflows.py       (in that host's environment, see test_host.sh)

Both forms come from one description, below; the host is asked for the order and the defaults of its nodes' inputs.
Take the newest host: older ones ignore inputs that they do not know, newer ones refuse graphs that lack theirs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "host"))
sys.path.insert(0, str(ROOT))

from graphs import Graph, node, out  # noqa: E402
from harness import Host  # noqa: E402

from echovideo_model.weights import HOST  # noqa: E402

HUB = "https://huggingface.co"
MODELS = {  # file name -> folder, address: as `echovideo models install` writes them
    Path(file.path).name: (
        str(Path(file.path).parent),
        f"{HUB}/{file.repository}/resolve/main/{file.source}",
    )
    for file in HOST
}
PROMPT = (
    "A woman with curly hair and golden earrings sits at a cafe table by the window, lifts a cup of coffee, takes a "
    "sip and smiles. Warm morning light, shallow depth of field, slow camera movement, realistic."
)
NEGATIVE = "blurry, distorted face, deformed hands, low quality, static"
NOTE = """**{title}**

{about}

**Files** (rename as shown; `echovideo models download` fetches them all)

{files}

antelopev2 (`scrfd_10g_bnkps.onnx`, `glintr100.onnx`) goes to `models/insightface/models/antelopev2`. The second part \
of the transformer, `echovideo-00002-of-00002.safetensors`, goes beside the first.

**Licences**: EchoVideo's weights CC BY-NC 4.0; antelopev2 non-commercial research only; CogVideoX-5b's VAE under its \
own licence; SigLIP Apache-2.0; BiSeNet MIT. Use photos of people who agreed to it."""


def loaders(weight_dtype: str = "default", raw_prompt: bool = False) -> Graph:
    return {
        "model": node("EchoVideoLoadModel", model_name=next(iter(MODELS)), weight_dtype=weight_dtype),
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
        "keep": node("EchoVideoSaveIdentity", identity=out("identity"), filename_prefix="person"),
    }
    return loaders() | photos | person("photos") | size() | cond() | ksampler() | film()


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


WORKFLOWS = {  # name -> title, what it is for, graph
    "quick_start": (
        "EchoVideo: quick start",
        "Load a photo, write what the person does, press Run. Three seconds at 16 fps.",
        loaders() | person() | size() | cond() | ksampler() | film(),
    ),
    "reference_settings": (
        "EchoVideo: reference settings",
        "ByteDance's own: 50 steps, DPM, dynamic guidance 6, noise in their order. A seed gives the same video as the "
        "command line.",
        loaders(raw_prompt=True) | person() | size() | cond() | reference() | film(),
    ),
    "low_memory": (
        "EchoVideo: low memory",
        "fp8 weights and tiled decoding. The latents are kept in a file before they are decoded.",
        low_memory(),
    ),
    "several_photos": (
        "EchoVideo: several photos of one person",
        "Embeddings are averaged, the picture comes from the best photo. The identity is kept in a file.",
        several_photos(),
    ),
    "compare_face_latent": (
        "EchoVideo: with and without the face latent",
        "The same seed twice: the face picture in frame 0 raises likeness, its absence frees the motion.",
        compare(),
    ),
    "lora": (
        "EchoVideo: with a LoRA",
        "Any LoRA for CogVideoX-5b, in models/loras; the log says how many of its layers fit.",
        lora(),
    ),
    "identity_score": (
        "EchoVideo: identity score",
        "How alike the person in the video and the photo are, frame by frame.",
        identity_score(),
    ),
    "long_video": (
        "EchoVideo: long video (experimental)",
        "97 frames in windows of 49, which overlap by 13. Batches of one only.",
        long_video(),
    ),
}
TITLES = {"prompt": "Prompt", "negative": "Negative prompt"}
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
SEEDS = ("seed", "noise_seed")
COLUMN, GAP, TOP = 420, 60, 120


class Described:
    """What the host says of its nodes."""

    def __init__(self, host: Host) -> None:
        self.nodes: dict[str, Any] = host.get("/object_info")

    def inputs(self, kind: str) -> dict[str, tuple[str, dict[str, Any], bool]]:
        """Name -> type, options, whether it is required; in the node's order. Lists of choices are COMBO."""
        result = {}
        for group in ("required", "optional"):
            for name, (type_, *rest) in self.nodes[kind]["input"].get(group, {}).items():
                options = dict(rest[0]) if rest else {}
                if isinstance(type_, list):
                    type_, options = "COMBO", {"options": type_, **options}
                result[name] = type_, options, group == "required"
        return result

    def completed(self, graph: Graph) -> Graph:
        """The graph with every required input that it leaves open at the host's default."""
        result = {}
        for name, one in graph.items():
            inputs = {}
            for id, (type_, options, required) in self.inputs(one["class_type"]).items():
                if id in one["inputs"]:
                    inputs[id] = one["inputs"][id]
                elif required and type_ in WIDGETS:
                    inputs[id] = default(options, type_)
            result[name] = {"class_type": one["class_type"], "inputs": inputs}
        return result


def default(options: dict[str, Any], type_: str) -> Any:
    fallback = {"INT": 0, "FLOAT": 0.0, "STRING": "", "BOOLEAN": False}.get(type_)
    return options.get("default", options["options"][0] if options.get("options") else fallback)


def is_link(value: Any) -> bool:
    return isinstance(value, list)


def depths(graph: Graph) -> dict[str, int]:
    """The column of every node: one to the right of everything that it reads."""
    result: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in result:
            sources = [value[0] for value in graph[name]["inputs"].values() if is_link(value)]
            result[name] = 1 + max(map(depth, sources), default=-1)
        return result[name]

    for name in graph:
        depth(name)
    return result


def drawn(graph: Graph, described: Described, title: str, about: str) -> dict[str, Any]:
    """The graph in the page's form: nodes with places, sizes, sockets, widgets; links as a table."""
    ids = {name: number for number, name in enumerate(graph, start=2)}
    columns = depths(graph)
    bottoms: dict[int, float] = {}
    nodes, links = [], []
    link_of: dict[tuple[str, str], int] = {}
    for name, one in graph.items():
        slot = 0
        for id, (type_, _, _) in described.inputs(one["class_type"]).items():
            value = one["inputs"].get(id)
            if type_ in WIDGETS and not is_link(value):
                continue
            if is_link(value):
                number = len(links) + 1
                source = described.nodes[graph[value[0]]["class_type"]]["output"][value[1]]
                links.append([number, ids[value[0]], value[1], ids[name], slot, source])
                link_of[name, id] = number
            slot += 1
    for order, (name, one) in enumerate(graph.items()):
        kind = one["class_type"]
        about_kind = described.nodes[kind]
        sockets, widgets = [], []
        for id, (type_, options, _) in described.inputs(kind).items():
            value = one["inputs"].get(id)
            if type_ in WIDGETS:
                widgets.append(default(options, type_) if is_link(value) or value is None else value)
                if id in SEEDS:
                    widgets.append("fixed")
                if options.get("image_upload"):
                    widgets.append("image")
                if not is_link(value):
                    continue
            socket: dict[str, Any] = {"name": id, "type": type_, "link": link_of.get((name, id))}
            if type_ in WIDGETS:
                socket["widget"] = {"name": id}
            sockets.append(socket)
        outputs = [
            {
                "name": label,
                "type": "COMBO" if isinstance(type_, list) else type_,
                "links": [link[0] for link in links if link[1] == ids[name] and link[2] == number] or None,
                "slot_index": number,
            }
            for number, (label, type_) in enumerate(
                zip(about_kind["output_name"], about_kind["output"], strict=True)
            )
        ]
        column = columns[name]
        height = 60 + 22 * max(len(sockets), len(outputs)) + 26 * len(widgets) + extra_height(kind)
        top = bottoms.get(column, TOP)
        bottoms[column] = top + height + GAP
        properties: dict[str, Any] = {"Node name for S&R": kind}
        ours = kind.startswith("EchoVideo")
        properties["cnr_id"] = "comfyui-echovideo" if ours else "comfy-core"
        wanted = [value for value in widgets if value in MODELS]
        if wanted:
            properties["models"] = [
                {"name": value, "url": MODELS[value][1], "directory": MODELS[value][0]} for value in wanted
            ]
        entry = {
            "id": ids[name],
            "type": kind,
            "pos": [COLUMN * (column + 1), top],
            "size": [360, height],
            "flags": {},
            "order": order,
            "mode": 0,
            "inputs": sockets,
            "outputs": outputs,
            "properties": properties,
            "widgets_values": widgets,
        }
        if name in TITLES:
            entry["title"] = TITLES[name]
        nodes.append(entry)
    nodes.append(note(title, about, graph))
    return {
        "last_node_id": len(graph) + 1,
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [0, 0]}},
        "version": 0.4,
    }


def extra_height(kind: str) -> int:
    """Room for what a node shows besides its widgets: text fields, pictures, videos."""
    return {"CLIPTextEncode": 130, "LoadImage": 300, "EchoVideoIdentity": 260, "SaveVideo": 280}.get(kind, 0)


def note(title: str, about: str, graph: Graph) -> dict[str, Any]:
    used = [value for one in graph.values() for value in one["inputs"].values() if value in list(MODELS)]
    files = "\n".join(f"- `models/{MODELS[name][0]}/{name}`: [download]({MODELS[name][1]})" for name in used)
    return {
        "id": 1,
        "type": "MarkdownNote",
        "pos": [-40, TOP],
        "size": [420, 560],
        "flags": {},
        "order": len(graph),
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "title": title,
        "widgets_values": [NOTE.format(title=title, about=about, files=files)],
    }


def thumbnail(title: str, about: str, path: Path) -> None:
    """The portrait beside what the workflow is for; no result is shown, since none was made here."""
    from textwrap import fill

    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (640, 400), "#17181c")
    portrait = Image.open(ROOT / "echovideo_model" / "assets" / "portrait.png").convert("RGB")
    picture.paste(portrait.resize((320, 400)), (0, 0))
    draw = ImageDraw.Draw(picture)
    name, _, what = title.partition(": ")
    draw.text((344, 60), name, "#8fd3c8", font_size=22)
    draw.multiline_text((344, 96), fill(what, 20), "#ffffff", font_size=28, spacing=6)
    draw.multiline_text((344, 220), fill(about, 34), "#b8bac2", font_size=16, spacing=6)
    picture.save(path, quality=88)


def main() -> None:
    folder = ROOT / "workflows"
    (folder / "api").mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        Host.start(Path(os.environ["COMFYUI_PATH"]), Path(base)) as host,
    ):
        described = Described(host)
        for name, (title, about, sketch) in WORKFLOWS.items():
            graph = described.completed(sketch)
            api = {key: {**one, "_meta": {"title": TITLES.get(key, key)}} for key, one in graph.items()}
            page = drawn(graph, described, title, about)
            for path, content in ((folder / f"{name}.json", page), (folder / "api" / f"{name}.json", api)):
                path.write_text(json.dumps(content, indent=1) + "\n")
            thumbnail(title, about, folder / f"{name}.jpg")


if __name__ == "__main__":
    main()
