"""A graph in the page's form: nodes with places, sizes, sockets and widgets; links as a table."""

from __future__ import annotations

from typing import Any

from testbed.graphs import Graph

from .described import WIDGETS, Described, default, is_link
from .layout import Node, place, sources
from .models import list_unnamed, of_node
from .note import notes
from .sketches import TITLES

SEEDS = ("seed", "noise_seed")
Links = list[list[Any]]


def page_form(graph: Graph, described: Described, name: str, about: str) -> dict[str, Any]:
    """It has no view of its own: the page fits it into the window."""
    ids = {name: number for number, name in enumerate(graph, start=3)}  # 1 and 2 are the notes
    links = link_table(graph, described, ids)
    nodes = []
    for order, (key, one) in enumerate(graph.items()):
        nodes.append(drawn(ids[key], order, one, described, links))
        if key in TITLES:
            nodes[-1]["title"] = TITLES[key]
    measured = {
        key: Node(*measures(node), reads=sources(graph, key), shape=video_shape(graph))
        for key, node in zip(graph, nodes, strict=True)
    }
    groups, corners = place(graph, measured, about)
    for node, at in zip(nodes, measured.values(), strict=True):
        node["pos"], node["size"] = [at.left, at.top], [at.width, at.height]
        node["flags"] = {"collapsed": True} if at.collapsed else {}
    released = any("models" in node["properties"] for node in nodes)
    return {
        "last_node_id": len(graph) + 2,
        "last_link_id": len(links),
        "nodes": [*nodes, *notes(about, len(nodes), corners, nano=not released)],
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"name": name},
        "version": 0.4,
        "models": list_unnamed(nodes),
    }


def sockets(one: dict[str, Any], described: Described) -> dict[str, str]:
    """Name -> type of the inputs that a node shows as sockets: all except widgets that no link drives."""
    return {
        id: type_
        for id, (type_, _, _) in described.inputs(one["class_type"]).items()
        if type_ not in WIDGETS or is_link(one["inputs"].get(id))
    }


def link_table(graph: Graph, described: Described, ids: dict[str, int]) -> Links:
    """Rows of: number, source node, its output, target node, its socket, type."""
    links: Links = []
    for name, one in graph.items():
        for slot, id in enumerate(sockets(one, described)):
            if is_link(value := one["inputs"].get(id)):
                source, number = value
                _, type_ = described.outputs(graph[source]["class_type"])[number]
                links.append([len(links) + 1, ids[source], number, ids[name], slot, type_])
    return links


def drawn(id: int, order: int, one: dict[str, Any], described: Described, links: Links) -> dict[str, Any]:
    """A node, before its place is known."""
    kind = one["class_type"]
    inputs = inputs_of(id, sockets(one, described), links)
    outputs = outputs_of(id, described.outputs(kind), links)
    widgets = widgets_of(one, described)
    return {
        "id": id,
        "type": kind,
        "pos": [0, 0],
        "size": [0, 0],
        "flags": {},
        "order": order,
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": properties_of(kind, widgets),
        "widgets_values": widgets,
    }


def measures(node: dict[str, Any]) -> tuple[str, int, int]:
    """What decides a node's height: its type, its rows of sockets, its widgets."""
    inputs = sum("widget" not in socket for socket in node["inputs"])
    return node["type"], max(inputs, len(node["outputs"])), len(node["widgets_values"])


def video_shape(graph: Graph) -> float:
    """The height of the graph's video as a share of its width."""
    size = next(one["inputs"] for one in graph.values() if one["class_type"] == "EchoVideoVideoSize")
    free = size["size"] == "free"
    width, height = (size["free_width"], size["free_height"]) if free else size["size"].split(" x ")
    return int(height) / int(width)


def inputs_of(id: int, sockets: dict[str, str], links: Links) -> list[dict[str, Any]]:
    into = {slot: number for number, _, _, target, slot, _ in links if target == id}
    result = []
    for slot, (name, type_) in enumerate(sockets.items()):
        socket: dict[str, Any] = {"name": name, "type": type_, "link": into.get(slot)}
        if type_ in WIDGETS:
            socket["widget"] = {"name": name}
        result.append(socket)
    return result


def outputs_of(id: int, described: list[tuple[str, str]], links: Links) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "type": type_,
            "links": [link[0] for link in links if link[1:3] == [id, number]] or None,
            "slot_index": number,
        }
        for number, (name, type_) in enumerate(described)
    ]


def widgets_of(one: dict[str, Any], described: Described) -> list[Any]:
    """The values of the widgets, and those that the page adds: what a seed does after a run, the upload button."""
    result = []
    for id, (type_, options, _) in described.inputs(one["class_type"]).items():
        if type_ not in WIDGETS:
            continue
        value = one["inputs"].get(id)
        result.append(default(options, type_) if is_link(value) or value is None else value)
        if id in SEEDS:
            result.append("fixed")
        if options.get("image_upload"):
            result.append("image")
    return result


def properties_of(kind: str, widgets: list[Any]) -> dict[str, Any]:
    pack = "comfyui-echovideo" if kind.startswith("EchoVideo") else "comfy-core"
    properties: dict[str, Any] = {"Node name for S&R": kind, "cnr_id": pack}
    if models := of_node(widgets):
        properties["models"] = models
    return properties
