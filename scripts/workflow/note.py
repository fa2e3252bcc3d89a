"""The model files that a workflow needs: for the page to look for, and for people to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from graphs import Graph

from echovideo_model.weights import HOST

from .layout import TOP

HUB = "https://huggingface.co"
MODELS = {  # file name -> folder, address: as `echovideo models install` writes them
    Path(file.path).name: (
        str(Path(file.path).parent),
        f"{HUB}/{file.repository}/resolve/main/{file.source}",
    )
    for file in HOST
}
NOTE = """**{title}**

{about}

**Files** (rename as shown; `echovideo models download` fetches them all)

{files}

antelopev2 (`scrfd_10g_bnkps.onnx`, `glintr100.onnx`) goes to `models/insightface/models/antelopev2`. The second part \
of the transformer, `echovideo-00002-of-00002.safetensors`, goes beside the first.

**Licences**: EchoVideo's weights CC BY-NC 4.0; antelopev2 non-commercial research only; CogVideoX-5b's VAE under its \
own licence; SigLIP Apache-2.0; BiSeNet MIT. Use photos of people who agreed to it."""


def models(widgets: list[Any]) -> list[dict[str, str]]:
    """The files among a node's values, in ComfyUI's form."""
    wanted = [value for value in widgets if value in MODELS]
    return [{"name": name, "url": MODELS[name][1], "directory": MODELS[name][0]} for name in wanted]


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
