"""The quick start as a new user meets it: the workflow is dropped into the page, Run is pressed, a video is seen.

Needs playwright and a Chromium (found on the PATH, or in $CHROMIUM). Screenshots are kept beside the host's log.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from testbed.harness import Host
from testbed.shipped import FILES

playwright = pytest.importorskip("playwright.sync_api", reason="the browser test needs playwright")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
READY = "() => window.app?.graph && window.LiteGraph?.registered_node_types?.EchoVideoIdentity"
DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([text], name, {type: "application/json"}));
    const canvas = document.querySelector("#graph-canvas") ?? document.querySelector("canvas");
    for (const kind of ["dragover", "drop"])
        canvas.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
PROBLEMS = """() => app.graph.nodes
    .filter((node) => node.type !== "MarkdownNote")
    .filter((node) => !LiteGraph.registered_node_types[node.type] || node.has_errors)
    .map((node) => node.type)"""
SMALLER = """() => {
    const size = {size: "free", free_width: 96, free_height: 64, frames: 9};
    const values = {EchoVideoVideoSize: size, KSampler: {steps: 2}};
    for (const node of app.graph.nodes)
        for (const [name, value] of Object.entries(values[node.type] ?? {})) {
            const widget = node.widgets.find((widget) => widget.name === name);
            widget.value = value;
            widget.callback?.(value);
        }
}"""
SHOWN = """(type) => {
    const node = app.graph.nodes.find((node) => node.type === type);
    return Boolean(node.imgs?.length || node.videoContainer || app.nodeOutputs[node.id]?.images?.length);
}"""
FIT = (
    "() => { app.canvas.ds.scale = 0.4; app.canvas.ds.offset = [220, 60]; app.canvas.setDirty(true, true); }"
)


@pytest.fixture(scope="module")
def page(host: Host) -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("the browser test needs Chromium: install it, or name it in CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1680, "height": 1050})
        page.set_default_timeout(120_000)
        yield page
        browser.close()


def test_quick_start_from_drop_to_video(host: Host, page: Any) -> None:
    broken: list[str] = []  # by this pack; the oldest host's own page has faults, too

    def see(error: Any) -> None:
        if "/extensions/ComfyUI-EchoVideo/" in (error.stack or ""):
            broken.append(error.stack)

    page.on("pageerror", see)
    page.goto(f"http://{host.address}/")
    page.wait_for_function(READY)
    page.wait_for_timeout(4000)  # a first visit is greeted with templates
    page.keyboard.press("Escape")
    workflow = FILES["quick_start"].read_text(encoding="utf-8")
    page.evaluate(DROP, ["quick_start.json", workflow])
    page.wait_for_function("() => app.graph.nodes.some((node) => node.type === 'EchoVideoConditioning')")
    assert page.evaluate(PROBLEMS) == []
    page.evaluate(FIT)
    page.wait_for_timeout(1500)
    page.screenshot(path=host.base / "quick_start_loaded.png")

    page.evaluate(SMALLER)
    before = len(list((host.base / "output").rglob("*.mp4")))
    page.evaluate("() => app.queuePrompt(0)")
    page.wait_for_function(SHOWN, arg="SaveVideo")
    assert page.evaluate(SHOWN, "EchoVideoIdentity")
    assert page.evaluate(PROBLEMS) == []
    page.evaluate(FIT)
    page.wait_for_timeout(3000)
    page.screenshot(path=host.base / "quick_start_finished.png")
    assert len(list((host.base / "output").rglob("*.mp4"))) == before + 1
    assert broken == []
