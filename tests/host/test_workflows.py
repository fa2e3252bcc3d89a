"""Every workflow that ships runs as it is, on tiny models: only sizes and step counts are made smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import pytest
from checkpoints import write_lora
from harness import PACK, Host

WORKFLOWS = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
SMALLER = {
    "EchoVideoVideoSize": {"size": "free", "free_width": 96, "free_height": 64},
    "KSampler": {"steps": 2},
    "EchoVideoScheduler": {"steps": 3},
    "VAEDecodeTiled": {"tile_size": 64, "overlap": 16},
}
FRAMES = {49: 9, 97: 65}  # the windows of the long video stay as they are: 13 latent frames


def api_form(name: str) -> dict[str, Any]:
    graph = json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())
    for one in graph.values():
        one["inputs"].update(SMALLER.get(one["class_type"], {}))
        if one["class_type"] == "EchoVideoVideoSize":
            one["inputs"]["frames"] = FRAMES[one["inputs"]["frames"]]
    return graph


@pytest.fixture(autouse=True)
def lora_of_the_user(host: Host) -> None:
    write_lora(host.base, "cogvideox_lora.safetensors", "diffusers")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_runs_and_its_video_has_the_size_length_and_rate_asked_for(host: Host, name: str) -> None:
    graph = api_form(name)
    run = host.run(graph)
    assert run.status == "success", run.message
    (frames,) = (
        one["inputs"]["frames"] for one in graph.values() if one["class_type"] == "EchoVideoVideoSize"
    )
    savers = [key for key, one in graph.items() if one["class_type"] == "SaveVideo"]
    assert savers
    for saver in savers:
        (path,) = run.files(saver)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (96, 64)
            assert float(stream.average_rate) == 16
            assert sum(1 for _ in container.decode(stream)) == frames


@pytest.mark.parametrize("name", WORKFLOWS)
def test_the_pages_form_is_the_same_graph(host: Host, name: str) -> None:
    """Same nodes, same links; every node known to the host; every model file has an address to load it from."""
    page = json.loads((PACK / "workflows" / f"{name}.json").read_text())
    api = json.loads((PACK / "workflows" / "api" / f"{name}.json").read_text())
    nodes = {node["id"]: node for node in page["nodes"] if node["type"] != "MarkdownNote"}
    known = host.get("/object_info")
    assert sorted(node["type"] for node in nodes.values()) == sorted(
        one["class_type"] for one in api.values()
    )
    assert all(node["type"] in known for node in nodes.values())
    links = {
        (nodes[a]["type"], i, nodes[b]["type"], nodes[b]["inputs"][j]["name"])
        for _, a, i, b, j, _ in page["links"]
    }
    assert links == {
        (api[value[0]]["class_type"], value[1], one["class_type"], id)
        for one in api.values()
        for id, value in one["inputs"].items()
        if isinstance(value, list)
    }
    loaded = [node for node in nodes.values() if node["type"].startswith("EchoVideoLoad")]
    for model in (entry for node in loaded for entry in node["properties"]["models"]):
        assert model["url"].startswith("https://huggingface.co/")
        assert any(model["name"] in node["widgets_values"] for node in loaded)


def test_the_host_offers_them_as_templates(host: Host) -> None:
    offered = host.get("/api/workflow_templates")
    assert sorted(offered["ComfyUI-EchoVideo"]) == WORKFLOWS
    for name in WORKFLOWS:
        assert host.get(f"/api/workflow_templates/ComfyUI-EchoVideo/{name}.json")["nodes"]
        assert Path(PACK / "workflows" / f"{name}.jpg").is_file()
