"""What the page says of model files that are missing: the released ones, where `echovideo models install` puts them."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest
from huggingface_hub import hf_hub_url

from echovideo_model.tiny import PORTRAITS
from echovideo_model.weights.comfyui import HOST
from testbed.harness import Host
from testbed.page import CHROMIUM, SETTINGS, Browser, browser
from testbed.shipped import page_form

# Of .onnx no page knows whether it is there: the workflows do not list them, and their note says so.
WANTED = {
    PurePosixPath(file.path): hf_hub_url(
        file.repository, file.source, revision=file.revision, endpoint="https://huggingface.co"
    )
    for file in HOST
    if not file.path.endswith(".onnx")
}
SECOND_PART = PurePosixPath("diffusion_models/echovideo-00002-of-00002.safetensors")
PANEL, DIALOG = "[data-testid='error-overlay']", ".comfy-missing-models"  # newer pages, older ones
DOWNLOAD = f"[data-testid='missing-model-download'], {DIALOG} button[title]:enabled"
FOLLOWED = """() => { window.followed = [];
  HTMLAnchorElement.prototype.click = function () { followed.push(this.href); }; }"""
ROWS = """() => [...document.querySelectorAll("[data-testid='missing-model-copy-name']")].map((button) => {
  const name = button.previousElementSibling;
  let group = name;
  while (!group.querySelector("p:not([title])")) group = group.parentElement;
  return group.querySelector("p:not([title])").textContent.trim().replace(/ \\(\\d+\\)$/, "/") + name.title;
})"""


@pytest.fixture(scope="module")
def own_host(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a photo and no models, whose page warns of missing ones."""
    if importlib.util.find_spec("playwright") is None or CHROMIUM is None:
        pytest.skip("the browser tests need playwright (pip install playwright) and Chromium")
    base = tmp_path_factory.mktemp("no_models")
    (base / "input").mkdir()
    shutil.copy(PORTRAITS[0], base / "input" / "portrait.png")
    settings = base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(
        json.dumps(SETTINGS | {"Comfy.Workflow.ShowMissingModelsWarning": True}), encoding="utf-8"
    )
    with Host.start(folder, base) as running:
        yield running


@pytest.fixture
def page(own_host: Host) -> Iterator[Browser]:
    """Its page, where a link that the page follows is noted and nothing is fetched from outside."""
    with browser(own_host.address) as opened:
        headers = {"Access-Control-Allow-Origin": "*"}
        opened.page.route(re.compile("^https:"), lambda route: route.fulfill(status=200, headers=headers))
        opened.run_js(FOLLOWED)
        yield opened


def load_with(page: Browser, host: Host, there: set[PurePosixPath]) -> None:
    """The quick start on a host that has the files `there`, with nothing in them, and no other models."""
    for file in HOST:
        path = host.base / "models" / file.path
        path.unlink(missing_ok=True)
        if PurePosixPath(file.path) in there:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    page.run_js("app.refreshComboInNodes()")
    page.load(page_form("quick_start"))


def listed(page: Browser) -> set[PurePosixPath]:
    """The missing files, as the page lists them: folder and name."""
    page.page.locator(f"{PANEL}, {DIALOG}").first.wait_for()
    if page.page.locator(DIALOG).count():
        labels = page.page.locator(f"{DIALOG} li span[title]").all_text_contents()
        return {PurePosixPath(label.replace(" / ", "/")) for label in labels}
    page.page.get_by_test_id("error-overlay-see-errors").click()
    page.page.get_by_test_id("missing-model-copy-name").first.wait_for()
    return set(map(PurePosixPath, page.run_js(ROWS)))


def test_the_page_lists_every_missing_file_and_where_to_get_it(page: Browser, own_host: Host) -> None:
    load_with(page, own_host, set())
    assert listed(page) == set(WANTED)
    page.picture("missing_models")

    for button in page.page.locator(DOWNLOAD).all():
        button.click()
    allowed = {".safetensors"} if page.page.locator(DIALOG).count() else {".safetensors", ".pth"}
    offered = {url for path, url in WANTED.items() if path.suffix in allowed}
    assert set(page.run_js("followed")) == offered


def test_what_is_there_is_not_listed(page: Browser, own_host: Host) -> None:
    """Another part of the transformer, too, which no widget names."""
    load_with(page, own_host, set(WANTED))
    page.page.wait_for_timeout(3000)
    assert page.page.locator(f"{PANEL}, {DIALOG}").count() == 0

    load_with(page, own_host, set(WANTED) - {SECOND_PART})
    assert listed(page) == {SECOND_PART}
