"""The host's page in Chromium, driven as a user drives it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
READY = "!!window.app?.extensionManager?.workflow?.activeWorkflow"
OURS = ("echovideo", "face_picker", "video_size", "identity_score")
MAX_SECONDS = 300  # for any single step, on a busy machine
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False}
# Puts a node of the given type into the graph; links go by slot.
HELPERS = """
window.echo = {
  add(type, x, y, widgets = {}) {
    const node = LiteGraph.createNode(type);
    node.pos = [x, y];
    app.graph.add(node);
    for (const [name, value] of Object.entries(widgets)) echo.set(node, name, value);
    return node;
  },
  set(node, name, value) {
    const widget = node.widgets.find((one) => one.name === name);
    widget.value = value;
    widget.callback?.(value);
  },
  all: (type) => app.graph._nodes.filter((node) => node.type === type),
  only: (type) => echo.all(type)[0],
  widgets: (node) => Object.fromEntries(node.widgets.map((widget) => [widget.name, widget.value])),
};
"""


class Browser:
    """A host's page, and every error about this pack in it."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.set_default_timeout(MAX_SECONDS * 1000)
        page.on("pageerror", self._see)
        page.on("console", self._hear)
        page.on("request", lambda request: self.requests.append(request.url))

    def _see(self, error: Any) -> None:
        if "/extensions/ComfyUI-EchoVideo/" in (error.stack or ""):  # hosts have faults of their own
            self.complaints.append(error.stack)

    def _hear(self, message: Any) -> None:
        place = f"{message.location.get('url', '')} {message.text}"
        if "/en.md" in place:
            return  # asked for first; languages without help pages get the English one
        if message.type == "error" and any(name in place.lower() for name in OURS):
            self.complaints.append(place)

    def open(self) -> None:
        self.page.goto(f"http://{self.address}", timeout=MAX_SECONDS * 1000)
        self.page.wait_for_function(READY)
        self.page.wait_for_function("!!window.LiteGraph?.registered_node_types?.EchoVideoIdentity")
        self.page.evaluate(HELPERS)

    def run_js(self, script: str, argument: Any = None) -> Any:
        return self.page.evaluate(script, argument)

    def setting(self, name: str, value: Any) -> None:
        self.run_js("([name, value]) => app.extensionManager.setting.set(name, value)", [name, value])

    def load(self, workflow: dict[str, Any]) -> None:
        self.run_js("(workflow) => app.loadGraphData(workflow)", workflow)

    def workflow(self) -> dict[str, Any]:
        """What would be saved now."""
        return json.loads(self.run_js("JSON.stringify(app.graph.serialize())"))

    def see_all(self) -> None:
        """Fits the graph into the window."""
        self.run_js("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
        self.page.wait_for_timeout(600)

    def picker(self, number: int = 0) -> Any:
        return self.page.locator(".echovideo-picker").nth(number)

    def wait_for_faces(self, count: int, number: int = 0) -> None:
        self.page.wait_for_function(
            "([count, number]) => document.querySelectorAll('.echovideo-picker')[number]"
            "?.querySelectorAll('.echovideo-face').length === count",
            arg=[count, number],
        )

    def wait_for_state(self, state: str, number: int = 0) -> None:
        self.page.wait_for_function(
            "([state, number]) => document.querySelectorAll('.echovideo-picker')[number]?.dataset.state === state",
            arg=[state, number],
        )

    def run_workflow(self, timeout: float = MAX_SECONDS, by_button: bool = False) -> None:
        """Runs it, by the Run button's command or by the button itself; fails if a node did."""
        self.run_js(
            """() => { window.ended = null;
              const api = app.api ?? window.comfyAPI.api.api;
              for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
                api.addEventListener(kind, (event) => { window.ended = [kind, event.detail] }, {once: true}); }"""
        )
        if by_button:
            self.run_button().click()
        else:
            self.run_js("app.queuePrompt(0)")
        self.page.wait_for_function("window.ended", timeout=timeout * 1000)
        kind, detail = self.run_js("window.ended")
        assert kind == "execution_success", detail

    def run_button(self) -> Any:
        """The Run button; on older pages, the first of two buttons in a frame with that name."""
        named = self.page.get_by_test_id("queue-button")
        return named.locator("button").first if named.locator("button").count() else named

    def picture(self, name: str) -> None:
        """Keeps a screenshot in $ECHOVIDEO_SCREENSHOTS, for people to look at."""
        if folder := os.environ.get("ECHOVIDEO_SCREENSHOTS"):
            self.page.wait_for_timeout(700)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


@contextmanager
def browser(address: str) -> Iterator[Browser]:
    """Chromium with the page of the host at `address` open."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        opened = Browser(chromium.new_page(viewport={"width": 1500, "height": 950}), address)
        opened.open()
        yield opened
        chromium.close()
