"""Draws docs/try_it.png and web/docs/images/: a real host's page, run and photographed.

    COMFYUI_PATH=path/to/ComfyUI python -m scripts.take_screenshot [try_it] [NODE ...]

With names, only those pictures. Needs what the browser tests need (scripts/test_host.sh makes such an environment). Use
the newest host, whose look most users see, and look at the pictures before you keep them.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from scripts.screenshot.help_graphs import GRAPHS
from scripts.screenshot.pictures import photograph, take
from testbed.harness import Host
from testbed.launch import stand_in_for_torchvision
from testbed.page import SETTINGS, Browser, browser
from testbed.shipped import api_form, page_form

ROOT = Path(__file__).parents[1]
SEED = 6  # of the video whose middle help pages show
PLAIN = {
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # draws text at every zoom
    "Comfy.Minimap.Visible": False,
    "Comfy.RightSidePanel.IsOpen": False,
    "Comfy.NodeBadge.NodeSourceBadgeMode": "None",
}


def main() -> None:
    stand_in_for_torchvision()  # transformers, which loads the tiny encoders, imports it too
    from scripts.screenshot.subjects import write_subjects
    from testbed.checkpoints import write_checkpoints

    chosen = sys.argv[1:] or ["try_it", *GRAPHS]
    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        write_checkpoints(base, base / "released")
        write_subjects(base, base / "released")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS | PLAIN), encoding="utf-8")
        with Host.start(Path(os.environ["COMFYUI_PATH"]), base) as host:
            result = make_result(host)  # before the browser, whose event loop would be in the way
            with browser(host.address) as page:
                take_all(page, chosen, result)


def take_all(page: Browser, chosen: list[str], result: dict[str, str]) -> None:
    page.page.set_viewport_size({"width": 3200, "height": 2000})
    for name in chosen:
        if name == "try_it":
            try_it(page)
        else:
            take(page, GRAPHS[name], ROOT / "web" / "docs" / "images" / f"{name}.png", result)


def make_result(host: Host) -> dict[str, str]:
    """A frame from the middle of the first workflow's video, in the host's form of a picture."""
    graph = api_form("try_it")
    graph["latents"]["inputs"]["seed"] = SEED
    graph["frame"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["large", 0], "filename_prefix": "frame"},
    }
    run = host.run(graph)
    assert run.status == "success", run.message
    frames = run.outputs["frame"]["images"]
    return frames[len(frames) // 2]


def try_it(page: Browser) -> None:
    """The whole workflow on the nano model after a run."""
    page.load(page_form("try_it"))
    page.wait_for_faces(1)
    page.run_workflow()
    photograph(page, ROOT / "docs" / "try_it.png", scale=1, colours=255)


if __name__ == "__main__":
    main()
