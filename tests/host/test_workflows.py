"""Every workflow that ships runs as it is, on tiny models: only sizes and step counts are made smaller."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import av
import pytest
from checkpoints import TRANSFORMER_PART_2, write_lora
from harness import PACK, Host
from huggingface_hub import hf_hub_url

from echovideo_model.weights import HOST

WORKFLOWS = sorted(path.stem for path in (PACK / "workflows").glob("*.json"))
SMALLER = {
    "EchoVideoVideoSize": {"size": "free", "free_width": 96, "free_height": 64},
    "KSampler": {"steps": 2},
    "EchoVideoScheduler": {"steps": 3},
    "VAEDecodeTiled": {"tile_size": 64, "overlap": 16},
}
TITLE = 30  # the bar above a node, in the page's units
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
    """Same nodes, same links; every node known to the host."""
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


@pytest.mark.parametrize("name", WORKFLOWS)
def test_it_says_where_its_models_come_from(name: str) -> None:
    """Every file that ComfyUI can look for, each where it is installed, from where it is published, as it must be."""
    page = json.loads((PACK / "workflows" / f"{name}.json").read_text())
    models = [model for node in page["nodes"] for model in node["properties"].get("models", ())]
    published = {
        file.path: (hf_hub_url(file.repository, file.source, revision=file.revision), file.sha256)
        for file in HOST
        if not file.path.endswith(".onnx")
    }
    assert {
        f"{model['directory']}/{model['name']}": (model["url"], model.get("hash")) for model in models
    } == published
    assert all(model.get("hash_type") == ("SHA256" if "hash" in model else None) for model in models)
    assert page["models"] == [model for model in models if model["name"] == TRANSFORMER_PART_2]
    (note,) = (node for node in page["nodes"] if node["type"] == "MarkdownNote")
    for file in HOST:
        url = hf_hub_url(file.repository, file.source, revision=file.revision)
        assert f"`models/{file.path}` [download]({url})" in note["widgets_values"][0]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_two_nodes_overlap_and_no_link_leads_back(name: str) -> None:
    page = json.loads((PACK / "workflows" / f"{name}.json").read_text())
    places = {node["id"]: (*node["pos"], *node["size"]) for node in page["nodes"]}
    for (left, top, width, height), (other_left, other_top, other_width, other_height) in combinations(
        places.values(), 2
    ):
        beside = left + width <= other_left or other_left + other_width <= left
        above = top + height + TITLE <= other_top or other_top + other_height + TITLE <= top
        assert beside or above
    assert all(places[source][0] <= places[target][0] for _, source, _, target, _, _ in page["links"])


def test_the_host_offers_them_as_templates(host: Host) -> None:
    offered = host.get("/api/workflow_templates")
    assert sorted(offered["ComfyUI-EchoVideo"]) == WORKFLOWS
    for name in WORKFLOWS:
        assert host.get(f"/api/workflow_templates/ComfyUI-EchoVideo/{name}.json")["nodes"]
        assert Path(PACK / "workflows" / f"{name}.jpg").is_file()
