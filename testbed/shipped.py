"""The API workflows that ship, made small enough for tiny models: only sizes, lengths and step counts change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av

from echovideo_model.nano.models import FOLDER
from testbed.harness import PACK, Graph


def by_name() -> dict[str, Path]:
    """Short name (the API form's) -> file of the page's form, in the order of the page's list."""
    files = sorted((PACK / "workflows").glob("*.json"))
    return {json.loads(file.read_text("utf-8"))["extra"]["name"]: file for file in files}


FILES = by_name()
SHIPPED = list(FILES)
ON_NANO = "try_it"  # chooses the nano model's files, the others the released ones
NAMES = [
    name for name in SHIPPED if name != ON_NANO or FOLDER.is_dir()
]  # the workflows that can run in this checkout
SMALLER: dict[str, dict[str, Any]] = {
    "EchoVideoVideoSize": {"size": "free", "free_width": 96, "free_height": 64},
    "KSampler": {"steps": 2},
    "EchoVideoScheduler": {"steps": 3},
    "VAEDecodeTiled": {"tile_size": 64, "overlap": 16},
}
FRAMES = {17: 9, 49: 9, 97: 65}  # the windows of the long video stay as they are: 13 latent frames


def page_form(name: str) -> dict[str, Any]:
    return json.loads(FILES[name].read_text("utf-8"))


def api_form(name: str) -> Graph:
    return json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


def small(name: str, **changed: Any) -> Graph:
    """The API form for tiny models; `changed` are inputs of its KSampler."""
    graph = api_form(name)
    for one in graph.values():
        one["inputs"].update(SMALLER.get(one["class_type"], {}))
        if one["class_type"] == "EchoVideoVideoSize":
            one["inputs"]["frames"] = FRAMES[one["inputs"]["frames"]]
        if one["class_type"] == "KSampler":
            one["inputs"].update(changed)
    return graph


def length(graph: Graph) -> int:
    (frames,) = (
        one["inputs"]["frames"] for one in graph.values() if one["class_type"] == "EchoVideoVideoSize"
    )
    return frames


def shape_of(graph: Graph) -> dict[str, Any]:
    """What check_video expects of a small workflow's videos."""
    inputs = [one["inputs"] for one in graph.values()]
    scale = next((int(one["scale_by"]) for one in inputs if "scale_by" in one), 1)
    fps = next((one["fps"] for one in inputs if isinstance(one.get("fps"), float)), 16.0)
    return {"frames": length(graph), "scale": scale, "fps": fps}


def check_video(path: Path, frames: int, scale: int = 1, fps: float = 16.0) -> None:
    """Size, rate and length of a small workflow's video, as an independent reader sees them."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (96 * scale, 64 * scale)
        assert float(stream.average_rate) == fps
        assert sum(1 for _ in container.decode(stream)) == frames
