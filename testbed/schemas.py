"""Every node with its inputs and outputs, as a host describes them to its page; and the same words as a translation.

scripts/node_schemas.py writes both, and tests hold every host to them.
"""

from __future__ import annotations

from typing import Any

from testbed.harness import PACK

CONTRACT = PACK / "tests" / "nodes.json"
ENGLISH = PACK / "locales" / "en"
OPTIONS = ("default", "min", "max", "step", "control_after_generate", "options", "tooltip")


def nodes_of(object_info: dict[str, Any]) -> dict[str, Any]:
    """Our nodes by id, from a host's /object_info, without what differs between hosts and installed files."""
    return {id: node_of(about) for id, about in sorted(object_info.items()) if id.startswith("EchoVideo")}


def node_of(about: dict[str, Any]) -> dict[str, Any]:
    inputs = [
        input_of(id, type_, options, optional=kind == "optional")
        for kind in ("required", "optional")
        for id, (type_, options) in about["input"].get(kind, {}).items()
    ]
    outputs = zip(about["output_name"], about["output"], about["output_tooltips"], strict=True)
    return {
        **{name: about[name] for name in ("display_name", "category", "description", "output_node")},
        "inputs": inputs,
        "outputs": [{"name": name, "type": type_, "tooltip": tooltip} for name, type_, tooltip in outputs],
    }


def input_of(id: str, type_: str, options: dict[str, Any], optional: bool) -> dict[str, Any]:
    kept = {name: options[name] for name in OPTIONS if name in options}
    if id.endswith("_name"):  # a list of files, which depends on the user
        kept.pop("options", None)
    return {"id": id, "type": type_, "optional": optional, **kept}


def english(nodes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The contents of locales/en by file name."""
    definitions = {
        id: {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {one["id"]: {"name": one["id"], "tooltip": one["tooltip"]} for one in node["inputs"]},
            "outputs": {
                str(number): {"name": one["name"], "tooltip": one["tooltip"]}
                for number, one in enumerate(node["outputs"])
            },
        }
        for id, node in nodes.items()
    }
    categories = {part: part for node in nodes.values() for part in node["category"].split("/")}
    return {"nodeDefs.json": definitions, "main.json": {"nodeCategories": categories}}
