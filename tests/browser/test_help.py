"""Each node's help, opened as a user opens it: by the button over the selected node, in every language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from testbed.page import Browser

PACK = Path(__file__).parents[2]
NODES: dict[str, Any] = json.loads((PACK / "tests" / "nodes.json").read_text(encoding="utf-8"))
TITLE = """(type) => {
  app.graph.clear();
  const node = echo.add(type, 400, 300);
  Object.assign(app.canvas.ds, {scale: 1, offset: [0, 0]});
  app.canvas.setDirty(true, true);
  const edge = app.canvas.canvas.getBoundingClientRect();
  return [edge.left + node.pos[0] + 60, edge.top + node.pos[1] - LiteGraph.NODE_TITLE_HEIGHT / 2];
}"""
HEADING = "(title) => document.querySelector('.node-help-content h1')?.textContent === title"
# What the panel's second section names as inputs, and its pictures once they are there or failed.
SHOWN = """async () => {
  const help = document.querySelector(".node-help-content");
  const pictures = [...help.querySelectorAll("img")];
  await Promise.all(pictures.map((one) => one.complete || new Promise((done) => (one.onload = one.onerror = done))));
  const named = (item) => {  // what stands before the colon
    const parts = [...item.childNodes];
    const end = parts.findIndex((part) => part.nodeType === Node.TEXT_NODE && /[:：]/.test(part.data));
    return parts.slice(0, end).filter((part) => part.tagName === "CODE").map((part) => part.textContent);
  };
  const inputs = [];
  let at = help.querySelectorAll("h2")[1];
  while ((at = at?.nextElementSibling) && at.tagName !== "H2")
    for (const item of at.querySelectorAll("li")) inputs.push(...named(item));
  return { inputs, widths: pictures.map((one) => one.naturalWidth), texts: pictures.map((one) => one.alt) };
}"""


def names(language: str) -> dict[str, str]:
    own = PACK / "locales" / language / "nodeDefs.json"
    known = json.loads(own.read_text(encoding="utf-8")) if own.exists() else NODES
    return {id: known[id]["display_name"] for id in NODES}


def help_of(page: Browser, id: str, title: str) -> dict[str, Any]:
    place = page.run_js(TITLE, id)
    page.page.wait_for_timeout(500)  # drawn, and no double click with the last node's
    page.page.mouse.click(*place)
    page.page.get_by_test_id("info-button").click()
    page.page.wait_for_function(HEADING, arg=title)
    return page.run_js(SHOWN)


def test_the_page_of_all_errors_opens_beside_this_one(page: Browser) -> None:
    page.page.context.route("https://github.com/**", lambda route: route.fulfill(body="all errors"))
    help_of(page, "EchoVideoIdentity", "EchoVideo Identity")
    link = page.page.locator(".node-help-content").get_by_role("link", name="troubleshooting")
    if link.get_attribute("target") != "_blank":
        pytest.skip("the page of ComfyUI 0.3.64 opens the links of every help page in its own tab")
    with page.page.expect_popup() as popup:
        link.click()
    assert popup.value.url.endswith("/ComfyUI-EchoVideo/blob/main/docs/troubleshooting.md")
    assert page.run_js("app.graph._nodes.length") == 1  # the workflow is still open


@pytest.mark.parametrize("language", ["en", "zh", "zh-TW", "ko", "ja"])
def test_every_node_s_help_opens_whole(page: Browser, language: str) -> None:
    page.setting("Comfy.Locale", language)
    try:
        page.open()  # the page reads a language once
        for id, title in names(language).items():
            shown = help_of(page, id, title)
            assert set(shown["inputs"]) == {one["id"] for one in NODES[id]["inputs"]}, id
            assert len(shown["widths"]) == 1, id
            assert all(shown["widths"]), f"{id}: a picture did not load"
            assert title in shown["texts"][0]
        page.picture(f"help_{language}")
    finally:
        page.setting("Comfy.Locale", "en")
