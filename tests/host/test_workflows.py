"""Every workflow that ships runs as it is, on tiny models: only sizes and step counts are made smaller."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pytest

from testbed.checkpoints import write_lora
from testbed.harness import PACK, Host
from testbed.shipped import NAMES, SHIPPED, api_form, check_video, page_form, shape_of, small

TITLE = 30  # the bar above a node, in the page's units


@pytest.fixture(autouse=True)
def lora_of_the_user(host: Host) -> None:
    write_lora(host.base, "cogvideox_lora.safetensors", "diffusers")


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_its_video_has_the_size_length_and_rate_asked_for(host: Host, name: str) -> None:
    graph = small(name)
    run = host.run(graph)
    assert run.status == "success", run.message
    savers = [key for key, one in graph.items() if one["class_type"] == "SaveVideo"]
    assert savers
    for saver in savers:
        (path,) = run.files(saver)
        check_video(path, **shape_of(graph))


@pytest.mark.parametrize("name", SHIPPED)
def test_the_pages_form_is_the_same_graph(host: Host, name: str) -> None:
    """Same nodes, same links; every node known to the host."""
    page = page_form(name)
    api = api_form(name)
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


@pytest.mark.parametrize("name", SHIPPED)
def test_no_two_nodes_overlap_and_no_link_leads_back(name: str) -> None:
    page = page_form(name)
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
    assert sorted(offered["ComfyUI-EchoVideo"]) == SHIPPED
    for name in SHIPPED:
        assert host.get(f"/api/workflow_templates/ComfyUI-EchoVideo/{name}.json")["nodes"]
        assert Path(PACK / "workflows" / f"{name}.jpg").is_file()
