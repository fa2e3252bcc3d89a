"""Draws docs/quick_start.png: the quick start, dropped into a real host's page, run, and photographed.

    COMFYUI_PATH=path/to/ComfyUI python scripts/take_screenshot.py

Needs what the browser tests need (scripts/test_host.sh makes such an environment).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
for folder in (ROOT, ROOT / "tests" / "host", ROOT / "tests" / "browser"):
    sys.path.insert(0, str(folder))

from harness import Host  # noqa: E402
from launch import stand_in_for_torchvision  # noqa: E402
from page import SETTINGS, browser  # noqa: E402

READABLE = {"LiteGraph.Canvas.MinFontSizeForLOD": 0, "Comfy.Minimap.Visible": False}  # text at every zoom
SMALLER = {"EchoVideoVideoSize": {"frames": 9}, "KSampler": {"steps": 2}}
CANVAS = {"x": 250, "y": 120, "width": 1760, "height": 860}


def main() -> None:
    stand_in_for_torchvision()
    from checkpoints import write_checkpoints

    with tempfile.TemporaryDirectory() as made:
        base = Path(made)
        write_checkpoints(base, base / "released")
        settings = base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True)
        settings.write_text(json.dumps(SETTINGS | READABLE))
        with Host.start(Path(os.environ["COMFYUI_PATH"]), base) as host, browser(host.address) as page:
            page.page.set_viewport_size({"width": 2200, "height": 1100})
            workflow = json.loads((ROOT / "workflows" / "quick_start.json").read_text("utf-8"))
            page.load(workflow)
            page.wait_for_faces(1)
            shown = (
                "Object.entries(values).forEach(([name, value]) => echo.set(echo.only(type), name, value))"
            )
            for kind, values in SMALLER.items():
                page.run_js(f"([type, values]) => {shown}", [kind, values])
            page.run_workflow()
            page.see_all()
            page.page.wait_for_timeout(4000)
            page.page.screenshot(path=str(ROOT / "docs" / "quick_start.png"), clip=CANVAS)


if __name__ == "__main__":
    main()
