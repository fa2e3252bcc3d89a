"""Writes workflows/TITLE.json (drag and drop), its thumbnail, and workflows/api/NAME.json (for POST /prompt).

    COMFYUI_PATH=... python -m scripts.make_workflows       (in that host's environment, see test_host.sh)

Both forms come from one description, workflow/sketches.py; the host is asked for the order and the defaults of its
nodes' inputs. Take the newest host: older ones ignore inputs that they do not know, newer ones refuse graphs that lack
theirs.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from scripts.workflow.described import Described
from scripts.workflow.page_form import page_form
from scripts.workflow.sketches import TITLES, WORKFLOWS
from scripts.workflow.thumbnail import thumbnail
from testbed.harness import Host

ROOT = Path(__file__).parents[1]


def main() -> None:
    folder = ROOT / "workflows"
    (folder / "api").mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        Host.start(Path(os.environ["COMFYUI_PATH"]), Path(base)) as host,
    ):
        described = Described(host)
        for name, (title, about, sketch) in WORKFLOWS.items():
            graph = described.completed(sketch)
            api = {key: {**one, "_meta": {"title": TITLES.get(key, key)}} for key, one in graph.items()}
            page = page_form(graph, described, name, about)
            for path, content in ((folder / f"{title}.json", page), (folder / "api" / f"{name}.json", api)):
                path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
            thumbnail(name, folder / f"{title}.jpg")


if __name__ == "__main__":
    main()
