"""What the host's own nodes save of a run with EchoVideo says that AI made it.

SaveVideo, SaveImage and their like write all that comes with a prompt (`extra_pnginfo`, such as the page's workflow)
into the file's metadata, unless ComfyUI runs with --disable-metadata. So two lines are added there when a prompt
arrives. A node could not do it, because a cached node does not run.
"""

from __future__ import annotations

from typing import Any

from server import PromptServer

from ...echovideo_model.provenance import MODEL, SOFTWARE, TRAINED

GENERATING = "EchoVideoConditioning"  # every way to a video goes through it


def register() -> None:
    """Adds the two lines to every prompt queued from now on, if there is a server."""
    server = getattr(PromptServer, "instance", None)
    if server is not None:
        server.add_on_prompt_handler(tag_prompt)


def tag_prompt(request: dict[str, Any]) -> dict[str, Any]:
    """The body of POST /prompt, with two more lines in its metadata if EchoVideo makes something of it."""
    graph = request.get("prompt")
    nodes = graph.values() if isinstance(graph, dict) else ()
    if any(isinstance(node, dict) and node.get("class_type") == GENERATING for node in nodes):
        extra = request.setdefault("extra_data", {})
        kept = extra.get("extra_pnginfo") or {}
        extra["extra_pnginfo"] = kept | {
            "digital_source_type": TRAINED,
            "made_with": f"{MODEL}, {SOFTWARE}",
        }
    return request
