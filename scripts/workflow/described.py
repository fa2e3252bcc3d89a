"""What a running host says about its nodes: the order, types and defaults of their inputs."""

from __future__ import annotations

from typing import Any

from testbed.graphs import Graph
from testbed.harness import Host

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class Described:
    """The host's own description of every node that it knows."""

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

    def outputs(self, kind: str) -> list[tuple[str, str]]:
        """Name and type of each output."""
        types = ("COMBO" if isinstance(type_, list) else type_ for type_ in self.nodes[kind]["output"])
        return list(zip(self.nodes[kind]["output_name"], types, strict=True))

    def completed(self, graph: Graph) -> Graph:
        """The graph, with the host's default for every required input that it leaves open."""
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
