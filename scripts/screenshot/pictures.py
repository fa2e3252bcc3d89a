"""From a graph to a picture file: the graph on the page, the part of the page that shows it, few colours."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

from PIL import Image

from testbed.page import Browser

from .help_graphs import Graph

SCALE = 2  # pixels of the file for one of the graph's units
MARGIN = 18  # units around the nodes
CORNER = 150  # units left of and above the nodes, which the page's own controls cover
BACK = "#19191d"
COLOURS = 200
BUILD = """([nodes, links, back]) => {
  app.clean(); // with what was run before
  app.graph.clear();
  const plain = {background_image: null, _pattern: null, clear_background_color: back, render_canvas_border: false};
  Object.assign(app.canvas, plain);
  const made = {};
  for (const [name, {type, at, folded, title, size, widgets}] of Object.entries(nodes)) {
    const node = made[name] = echo.add(type, ...at, widgets);
    if (title) node.title = title;
    if (size) node.setSize(size);
    if (folded) node.collapse();
  }
  for (const link of links) {
    const [from, output, to, input] = link.split(/ > |\\./);
    const place = (slots, slot) => slots.findIndex((one) => one.name === slot);
    const wired = made[from].connect(place(made[from].outputs, output), made[to], place(made[to].inputs, input));
    if (!wired) throw new Error(link);
  }
}"""
# Tells the page what a node shows, as the host does at the end of a run.
REPORT = """([type, image]) => {
  const api = app.api ?? window.comfyAPI.api.api;
  const node = String(echo.only(type).id);
  const detail = {node, display_node: node, prompt_id: "", output: {images: [image]}};
  api.dispatchEvent(new CustomEvent("executed", {detail}));
}"""
# What the nodes and groups fill, in units; folded nodes know their width only once they are drawn.
SHOW = """async ([corner, scale]) => {
  const drawn = () => new Promise((done) => { app.canvas.setDirty(true, true); setTimeout(done, 300); });
  Object.assign(app.canvas.ds, {scale, offset: [600, 600]});
  await drawn();
  const edges = app.graph._nodes.map((node) => {
    const [x, y] = node.pos;
    const [width, height] = node.flags.collapsed ? [node._collapsed_width ?? node.width, 0] : node.size;
    return [x, y - LiteGraph.NODE_TITLE_HEIGHT, x + width, y + height];
  });
  for (const {pos: [x, y], size: [width, height]} of app.graph._groups) edges.push([x, y, x + width, y + height]);
  const most = (pick, at) => pick(...edges.map((edge) => edge[at]));
  const [left, top] = [most(Math.min, 0), most(Math.min, 1)];
  app.canvas.ds.offset = [corner - left, corner - top];
  await drawn();
  return [most(Math.max, 2) - left, most(Math.max, 3) - top];
}"""

# Videos are paused and without their buttons, which this browser draws in the wrong place.
STILL = "document.querySelectorAll('video').forEach((one) => { one.pause(); one.controls = false; })"


def take(page: Browser, graph: Graph, path: Path, result: dict[str, str]) -> None:
    """Writes `path`: the graph, after a run if it asks for one, and nothing else of the page. `result` is the picture,
    in the host's form, that nodes with a result show."""
    nodes = {name: dataclasses.asdict(node) for name, node in graph.nodes.items()}
    page.run_js(BUILD, [nodes, graph.links, BACK])
    page.page.wait_for_timeout(2500)  # photos and faces
    if graph.run:
        page.run_workflow()
        page.page.wait_for_timeout(1500)
    for node in graph.nodes.values():
        if node.result:
            page.run_js(REPORT, [node.type, result])
    photograph(page, path, SCALE, COLOURS)


def photograph(page: Browser, path: Path, scale: float, colours: int) -> None:
    """Writes `path`: the nodes and groups on the page with a margin around them, `scale` pixels for a unit."""
    width, height = page.run_js(SHOW, [CORNER, scale])
    page.page.wait_for_timeout(3000)  # until a video begins
    page.run_js(STILL)
    page.page.wait_for_timeout(1000)
    edge = page.run_js("(({left, top}) => [left, top])(app.canvas.canvas.getBoundingClientRect())")
    clip = {
        "x": edge[0] + (CORNER - MARGIN) * scale,
        "y": edge[1] + (CORNER - MARGIN) * scale,
        "width": (width + 2 * MARGIN) * scale,
        "height": (height + 2 * MARGIN) * scale,
    }
    save(page.page.screenshot(clip=clip), path, colours)


def save(screenshot: Any, path: Path, colours: int) -> None:
    """A PNG of few colours: screenshots are flat, and help pages should open at once."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    few = picture.quantize(colours, method=Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
