"""The pack as the host sees it: it loads, quickly and quietly, and every node describes itself."""

from __future__ import annotations

import re

from harness import PACK_FOLDER, Host


def our_nodes(host: Host) -> dict[str, dict]:
    return {name: about for name, about in host.get("/object_info").items() if name.startswith("EchoVideo")}


def test_it_loads_and_says_so_in_one_line(host: Host) -> None:
    lines = [line for line in host.log().splitlines() if "ComfyUI-EchoVideo 0" in line]
    assert len(lines) == 1
    assert f"{len(our_nodes(host))} nodes" in lines[0]
    assert "IMPORT FAILED" not in host.log()


def test_it_takes_under_half_a_second_to_import(host: Host) -> None:
    (seconds,) = re.findall(rf"([\d.]+) seconds: \S*{PACK_FOLDER}", host.log())
    assert float(seconds) <= 0.5


def test_every_node_says_what_it_is_for(host: Host) -> None:
    for name, about in our_nodes(host).items():
        assert about["display_name"], name
        assert len(about["description"]) > 60, name
        assert about["category"] == "EchoVideo", name


def test_every_input_and_output_has_a_tooltip(host: Host) -> None:
    for name, about in our_nodes(host).items():
        for kind in ("required", "optional"):
            for id, (_, options) in about["input"].get(kind, {}).items():
                assert options.get("tooltip"), f"{name}: {id}"
        assert all(about["output_tooltips"]), name
