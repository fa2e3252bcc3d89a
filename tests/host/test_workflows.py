"""Every workflow that ships runs as it is, on tiny models: only sizes and step counts are made smaller."""

from __future__ import annotations

import json
import math
import re
import urllib.parse
import urllib.request
from itertools import combinations

import pytest

from echovideo_model.weights.comfyui import HOST
from testbed.checkpoints import write_lora
from testbed.harness import PACK, Host
from testbed.shipped import FILES, NAMES, ON_NANO, SHIPPED, api_form, check_video, page_form, shape_of, small

SHAPES = json.loads((PACK / "tests" / "golden" / "transformer_keys.json").read_text("utf-8"))
# The transformer in 16 bits, whose files' sizes nobody publishes, and the files whose sizes are known; bytes.
SIZE = 2 * sum(map(math.prod, SHAPES.values())) + sum(file.size or 0 for file in HOST)
TITLE = 30  # the bar above a node, in the page's units
WIDEST, HIGHEST = 1700, 1200  # of these units: the page opens it at a zoom at which text is drawn
GROUPS = ["Models", "Person", "Prompt", "Video"]
GROUPS_OF_TWO = ["Models", "Person on the left", "Person on the right", "Video"]


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
def test_no_two_nodes_overlap_and_links_lead_to_the_right_or_down(name: str) -> None:
    page = page_form(name)
    places = {
        node["id"]: (*node["pos"], *(node["size"] if not node["flags"] else (node["size"][0], 0)))
        for node in page["nodes"]
    }
    for (left, top, width, height), (other_left, other_top, other_width, other_height) in combinations(
        places.values(), 2
    ):
        beside = left + width <= other_left or other_left + other_width <= left
        above = top + height + TITLE <= other_top or other_top + other_height + TITLE <= top
        assert beside or above
    for _, source, _, target, _, _ in page["links"]:
        left, top, _, height = places[source]
        assert left <= places[target][0] or top + height <= places[target][1]


def test_the_host_offers_them_as_templates(host: Host) -> None:
    offered = host.get("/api/workflow_templates")
    titles = [file.stem for file in FILES.values()]
    assert sorted(offered["ComfyUI-EchoVideo"]) == titles
    for title in titles:
        served = f"/api/workflow_templates/ComfyUI-EchoVideo/{urllib.parse.quote(title)}"
        assert host.get(f"{served}.json")["nodes"]
        with urllib.request.urlopen(f"http://{host.address}{served}.jpg", timeout=60) as answer:
            assert answer.headers["Content-Type"] == "image/jpeg"


def test_titles_are_sentences_in_the_order_in_which_a_stranger_needs_them() -> None:
    numbers = [int(file.stem[:2]) for file in FILES.values()]
    assert numbers == sorted(set(numbers))
    for file in FILES.values():
        assert re.fullmatch(r"\d\d [A-Z][a-z]+( [\w,]+)+", file.stem), (
            file
        )  # nothing that Windows or an address minds
    assert SHIPPED.index("quick_start") < min(
        map(SHIPPED.index, ("long_video", "lora", "reference_settings"))
    )


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_small_enough_to_be_read_and_stands_in_four_groups(name: str) -> None:
    page = page_form(name)
    groups = {group["title"]: group["bounding"] for group in page["groups"]}
    assert list(groups) == (GROUPS_OF_TWO if name == "two_people" else GROUPS)
    left = min(x for x, *_ in groups.values())
    assert max(x + width for x, _, width, _ in groups.values()) - left <= WIDEST
    ends = [node["pos"][1] + node["size"][1] for node in page["nodes"]]  # Nodes 2.0 counts folded ones so too
    assert max(ends) - min(node["pos"][1] - TITLE for node in page["nodes"]) <= HIGHEST
    for node in page["nodes"]:
        (x, y), width = node["pos"], node["size"][0]
        inside = [
            title
            for title, (left, top, wide, high) in groups.items()
            if left < x and x + width < left + wide and top < y - TITLE and y < top + high
        ]
        assert len(inside) == (node["type"] != "MarkdownNote"), node["type"]


@pytest.mark.parametrize("name", SHIPPED)
def test_its_note_says_what_to_do_first(name: str) -> None:
    notes = {node["title"]: node for node in page_form(name)["nodes"] if node["type"] == "MarkdownNote"}
    assert [note["flags"] for note in notes.values()] == [{}, {"collapsed": True}]
    beginning = notes["Start here"]["widgets_values"][0]
    assert "insightface" in beginning
    if name != ON_NANO:
        assert f"{SIZE / 1e9:.0f} GB" in beginning
        assert "click the face" in beginning
