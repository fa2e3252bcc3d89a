"""Writes tests/nodes.json: every node with its inputs and outputs, as a host describes them to its page; and
locales/en, the same words as a translation file, for translators to start from.

    COMFYUI_PATH=... python -m scripts.node_schemas       (in that host's environment, see test_host.sh)

The first is a contract: saved workflows hold node ids, socket types, and inputs by name and by order.
tests/test_help.py holds the help pages and translations to it, tests/host/test_help.py holds every host to it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from testbed.harness import Host
from testbed.schemas import CONTRACT, ENGLISH, english, nodes_of


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        Host.start(Path(os.environ["COMFYUI_PATH"]), Path(base)) as host,
    ):
        nodes = nodes_of(host.get("/object_info"))
    CONTRACT.write_text(json.dumps(nodes, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    ENGLISH.mkdir(exist_ok=True)
    for name, content in english(nodes).items():
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (ENGLISH / name).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
