"""Every workflow that ships, in both of the page's looks: no node covers another."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from testbed.page import Browser
from testbed.shipped import NAMES, page_form

VUE = "Comfy.VueNodes.Enabled"
# Of each node that has an element (Nodes 2.0) that element's rectangle, else the one drawn: left, top, right, bottom.
RECTANGLES = """() => app.graph._nodes.map((node) => {
  const drawn = document.querySelector(`[data-node-id="${node.id}"]`);
  const [x, y, width, height] = node.boundingRect ?? node.getBounding();
  if (!drawn) return [node.title, false, x, y, x + width, y + height];
  const {left, top, right, bottom} = drawn.getBoundingClientRect();
  return [node.title, true, left, top, right, bottom];
})"""


def overlaps(rectangles: list[list[Any]]) -> list[tuple[str, str]]:
    return [
        (one[0], other[0])
        for one, other in combinations(rectangles, 2)
        if one[2] < other[4] and other[2] < one[4] and one[3] < other[5] and other[3] < one[5]
    ]


@pytest.fixture(params=["classic", "Nodes 2.0"])
def looked_at(request: pytest.FixtureRequest, page: Browser) -> Any:
    """The page, loaded afresh in one of the looks, and whether it is the new one."""
    new = request.param != "classic"
    if new and not page.run_js("'vueNodesMode' in LiteGraph"):
        pytest.skip("this host knows one look")
    if new:
        page.setting(VUE, True)
        page.open()
    try:
        yield page, new
    finally:
        if new:
            page.setting(VUE, False)


def test_no_node_covers_another(looked_at: tuple[Browser, bool]) -> None:
    page, new = looked_at
    for name in NAMES:
        workflow = page_form(name)
        page.load(workflow)
        if new:
            page.page.wait_for_timeout(2000)
            if page.page.locator("[data-node-id] textarea").count() == 0:
                pytest.skip("this host's new look is unfinished: even its own prompts have no field for text")
        page.wait_for_faces(1)
        page.see_all()
        rectangles = page.run_js(RECTANGLES)
        page.picture(f"look_{'new' if new else 'classic'}_{name}")
        assert len(rectangles) == len(workflow["nodes"])
        assert all(drawn is new for _, drawn, *_ in rectangles), name
        assert overlaps(rectangles) == [], name
