"""The model files of a workflow in ComfyUI's form, from which its page tells what is missing and where to get it.

The page looks at a node's `properties.models` for the files that its widgets name, and at the workflow's own `models`
for others, if a node that is not switched off names them in its properties. It finds only the kinds of file that
ComfyUI lists itself: antelopev2's .onnx files would be reported missing even if they are there, so they are left out.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Any

from echovideo_model.weights.comfyui import HOST
from echovideo_model.weights.released import ModelFile

HUB = "https://huggingface.co"
PART = re.compile(r"-\d{5}-of-\d{5}")
Entry = dict[str, str]


def entry(file: ModelFile) -> Entry:
    path = PurePosixPath(file.path)
    url = f"{HUB}/{file.repository}/resolve/{file.revision}/{file.source}"
    checked = {"hash": file.sha256, "hash_type": "SHA256"} if file.sha256 else {}
    return {"name": path.name, "url": url, **checked, "directory": str(path.parent)}


MODELS = tuple(map(entry, HOST))  # with the names and folders that `echovideo models install` uses


def of_node(widgets: list[Any]) -> list[Entry]:
    """The files that a node with these values reads: all parts of a file in several parts."""
    chosen = {PART.sub("", value) for value in widgets if isinstance(value, str)}
    return [one for one in MODELS if PART.sub("", one["name"]) in chosen]


def list_unnamed(nodes: list[dict[str, Any]]) -> list[Entry]:
    """What the workflow itself must name, or the page would miss it: the further parts of files."""
    return [
        one
        for node in nodes
        for one in node["properties"].get("models", ())
        if one["name"] not in node["widgets_values"]
    ]
