"""Where the nodes of a graph are on the page: four groups, narrow and low enough to read when it opens.

The page fits a template into three quarters of its window and stops drawing text below a zoom of 0.57, which a graph
1,700 wide and 1,200 high keeps clear of in a window of 1500 x 950.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from testbed.graphs import Graph

from .described import is_link

BAR, GAP = 30, 16  # the bar above a node; the gap between a node and the next one's bar
PADDING, HEAD = 12, 36  # of a group around its nodes; for its title
BETWEEN = 22  # groups
BAR_2 = 12  # by how much a collapsed node of Nodes 2.0 is higher than a bar
SHOWN = {
    "CLIPTextEncode": 130,
    "LoadImage": 190,
    "EchoVideoIdentity": 265,
    "EchoVideoVideoSize": 120,
    "EchoVideoIdentityScore": 175,
    "PreviewAny": 70,
}
LOOK_2 = {
    "CLIPTextEncode": 0,
    "EchoVideoVideoSize": 125,
    "EchoVideoIdentityScore": 115,
    "KSampler": -50,
}  # text stays as high; what a seed does after a run has no row
PHOTO_2 = 0.93  # the height of a photo as a share of its node's width: 0.8.0 shows it as wide as the node
FILM = 0.05  # of the width of Save Video: what its height needs beyond the video's
NOTE = "MarkdownNote"
COLLAPSED = (
    "VAEDecode",
    "CreateVideo",
    "ImageBatch",
    "ConditioningCombine",
)  # there is nothing to set in these
STEPS, LINE, LETTERS = (
    310,
    22,
    34,
)  # Nodes 2.0 shows a note whole: its steps' height, a line's, and what fits in one
FOLDED = 400  # the height of the second note when unfolded


@dataclass(frozen=True)
class Group:
    """Nodes whose kinds or names are in `columns` stand in that column, others where there is room."""

    title: str
    colour: str
    left: int
    widths: tuple[int, ...]
    columns: tuple[tuple[str, ...], ...] = ()
    last: str = ""  # the node that stands below the others

    @property
    def width(self) -> int:
        return sum(self.widths) + GAP * (len(self.widths) - 1)


MODELS = Group("Models", "#4f5f6b", 0, (270,))
PERSON = Group(
    "Person",
    "#2f7a5b",
    MODELS.width + BETWEEN + 2 * PADDING,
    (225, 364),
    (("LoadImage", "ImageBatch", "EchoVideoLoadIdentity"), ("EchoVideoIdentity", "EchoVideoSaveIdentity")),
)
PROMPT = Group("Prompt", "#8a6a35", PERSON.left, (322, 267))
VIDEO = Group(
    "Video",
    "#3b6ea5",
    PERSON.left + PERSON.width + BETWEEN + 2 * PADDING,
    (225, 225, 225),
    ((), ("ImageScaleBy",)),  # between what it reads and what reads it
)
# Two people stand side by side, as in the video: each with photo, face and prompt in one column.
SIDE = (PERSON.width - BETWEEN - 2 * PADDING) // 2
LEFT = Group("Person on the left", PERSON.colour, PERSON.left, (SIDE,))
RIGHT = Group("Person on the right", PERSON.colour, LEFT.left + SIDE + BETWEEN + 2 * PADDING, (SIDE,))
SIDES = {"photo_left": LEFT, "photo_right": RIGHT}
VIDEO_OF_TWO = replace(
    VIDEO,
    columns=(
        ("CLIPTextEncode", "EchoVideoVideoSize", "KSampler", "VAEDecode", "CreateVideo"),
        ("cond_left", "positive_left", "negative_left", "positive", "score_left"),
        ("cond_right", "positive_right", "negative_right", "negatives", "score_right"),
    ),
    last="negative",  # beside the prompts; and the page counts a folded node as high as it is unfolded
)
FOLDED_FOR_TWO = ("EchoVideoConditioning", "ConditioningSetAreaPercentageVideo")
LOWER_FOR_TWO = {
    "negative": 60,
    "CLIPTextEncode": 100,
    "SaveVideo": 350,
    "EchoVideoIdentityScore": 160,
}  # what these show
PHOTO_OF_TWO = 200  # the width of its node
HOMES = {"CLIPTextEncode": PROMPT, "EchoVideoVideoSize": PROMPT} | {
    kind: PERSON for column in PERSON.columns for kind in column
}


def home(name: str, kind: str, photos: Collection[str]) -> Group:
    """The group of a node; `photos` are the names of those that load one."""
    if kind.startswith("EchoVideoLoad") and kind not in HOMES:
        return MODELS
    if SIDES.keys() <= set(photos):
        side = SIDES.get(f"photo_{name.rpartition('_')[2]}", VIDEO_OF_TWO)
        return side if kind in ("LoadImage", "EchoVideoIdentity", "CLIPTextEncode") else VIDEO_OF_TWO
    if kind == "EchoVideoVideoSize" and len(photos) > 1:
        return VIDEO  # several photos take up the height that it would need below them
    return HOMES.get(kind, VIDEO)


@dataclass
class Node:
    """What decides a node's place: its type, its rows of sockets, its widgets; and then the place itself."""

    kind: str
    sockets: int
    widgets: int
    reads: Sequence[str] = ()
    left: int = 0
    top: int = 0
    width: int = 0
    widest: int = 10**6
    span: int = 1  # columns
    shown: int | None = None  # the height of its text, picture or video, if not that of its kind
    folded: bool = False
    shape: float = 0.75  # of the graph's video: its height as a share of its width

    @property
    def collapsed(self) -> bool:
        return self.folded or self.kind in COLLAPSED

    @property
    def display(self) -> int:
        """The height of what a node shows besides its rows: text, a picture, a video."""
        if self.shown is not None:
            return self.shown
        return (
            round((self.shape + FILM) * self.width) if self.kind == "SaveVideo" else SHOWN.get(self.kind, 0)
        )

    @property
    def height(self) -> int:
        return 16 * (self.kind != NOTE) + 20 * self.sockets + 24 * self.widgets + self.display

    @property
    def room(self) -> int:
        """The height left for it in either look: in Nodes 2.0, rows are higher and there is a footer."""
        if self.collapsed:
            return BAR_2
        if self.kind == NOTE:
            return self.display
        photo = round(PHOTO_2 * self.width) if self.kind == "LoadImage" else self.display
        shown = LOOK_2.get(self.kind, photo)
        return max(self.height, 52 + 20 * self.sockets + 34 * self.widgets + shown)

    @property
    def bottom(self) -> int:
        return self.top + self.room


def place(graph: Graph, nodes: dict[str, Node], about: str) -> tuple[list[dict[str, Any]], tuple[Node, Node]]:
    """Gives every node its left, top and width; returns the groups, in the page's form, and the notes' places:
    at the left, above the models. No node covers another, and links lead to the right or down."""
    photos = [name for name, node in nodes.items() if node.kind == "LoadImage"]
    homes = {name: home(name, node.kind, photos) for name, node in nodes.items()}
    two = LEFT in homes.values()
    blocks = (
        ((MODELS,), (LEFT,), (RIGHT,), (VIDEO_OF_TWO,)) if two else ((MODELS,), (PERSON, PROMPT), (VIDEO,))
    )
    drawn: dict[str, dict[str, Any]] = {}
    if two:
        make_lower(nodes)
    for block in blocks:
        top = 0
        for group in block:
            names = sorted(in_order(graph), key=lambda name: name == group.last)
            mine = {name: nodes[name] for name in names if homes[name] is group}
            drawn[group.title] = frame(group, top, fill(group, mine, top))
            top = end(drawn[group.title]) + BETWEEN
    lines = len(about) // LETTERS + 1
    note = Node(NOTE, 0, 0, top=BAR, width=MODELS.width, shown=STEPS + LINE * lines)
    rest = Node(NOTE, 0, 0, top=note.bottom + GAP + BAR, width=MODELS.width, shown=FOLDED, folded=True)
    down = rest.bottom + BETWEEN
    drawn["Models"]["bounding"][1] += down
    for name, node in nodes.items():
        node.top += down if homes[name] is MODELS else 0
    return list(drawn.values()), (note, rest)


def make_lower(nodes: dict[str, Node]) -> None:
    """With two people: folds what is seldom set, and takes height from the rest."""
    for name, node in nodes.items():
        node.folded = node.kind in FOLDED_FOR_TWO
        node.shown = LOWER_FOR_TWO.get(name, LOWER_FOR_TWO.get(node.kind))
        if node.kind == "LoadImage":
            node.widest = PHOTO_OF_TWO


def frame(group: Group, top: int, bottom: int) -> dict[str, Any]:
    bounding = [group.left - PADDING, top, group.width + 2 * PADDING, bottom - top]
    return {"title": group.title, "bounding": bounding, "color": group.colour, "font_size": 24, "flags": {}}


def end(group: dict[str, Any]) -> int:
    return group["bounding"][1] + group["bounding"][3]


def fill(group: Group, nodes: dict[str, Node], top: int) -> int:
    """Places a group's nodes below `top`, keeping the group as low as possible; returns where it ends."""
    films = sum(node.kind == "SaveVideo" for node in nodes.values())
    for node in nodes.values():
        node.span = 2 if node.kind == "SaveVideo" and films == 1 else 1
        node.width = min(group.widths[0] * node.span + GAP * (node.span - 1), node.widest)
    packing = Packing(group, nodes)
    packing.go(list(nodes), [top + HEAD - GAP] * len(group.widths))
    for name, (at, y) in packing.best.items():
        node = nodes[name]
        column = sum(group.widths[at : at + node.span]) + GAP * (node.span - 1)
        node.width = min(column, node.widest)
        node.left, node.top = packing.lefts[at] + (column - node.width) // 2, y
    return packing.lowest + PADDING


class Packing:
    """The columns in which nodes, placed one after another, end highest: tries all except those that cannot win."""

    def __init__(self, group: Group, nodes: dict[str, Node]) -> None:
        self.group, self.nodes = group, nodes
        self.lefts = [group.left + sum(group.widths[:at]) + GAP * at for at in range(len(group.widths))]
        self.lowest, self.best = 10**6, dict[str, tuple[int, int]]()
        self.so_far: dict[str, tuple[int, int]] = {}

    def go(self, rest: list[str], ends: list[int]) -> None:
        area = sum(self.nodes[name].span * (self.nodes[name].room + GAP + BAR) for name in rest)
        if max(max(ends), (sum(ends) + area) / len(ends)) >= self.lowest:
            return
        if not rest:
            self.lowest, self.best = max(ends), dict(self.so_far)
            return
        name, *later = rest
        node = self.nodes[name]
        for y, at in sorted((self.highest(node, at, ends), at) for at in self.allowed(name)):
            self.so_far[name] = at, y
            after = [
                y + node.room if at <= column < at + node.span else end for column, end in enumerate(ends)
            ]
            self.go(later, after)
        self.so_far.pop(name, None)

    def allowed(self, name: str) -> list[int]:
        """The columns in which a node may stand."""
        node = self.nodes[name]
        own = [at for at, those in enumerate(self.group.columns) if node.kind in those or name in those]
        return own or list(range(len(self.lefts) - node.span + 1))

    def highest(self, node: Node, at: int, ends: list[int]) -> int:
        """How high a node can be in a column: below the nodes there, and below its inputs' nodes unless they are to its
        left."""
        above = [
            self.so_far[name][1] + self.nodes[name].room
            for name in node.reads
            if name in self.so_far and self.so_far[name][0] > at
        ]
        return max([*ends[at : at + node.span], *above]) + GAP + BAR


def in_order(graph: Graph) -> list[str]:
    """Every node after those that it reads, otherwise in the graph's order."""
    result: list[str] = []

    def add(name: str) -> None:
        for source in sources(graph, name):
            add(source)
        if name not in result:
            result.append(name)

    for name in graph:
        add(name)
    return result


def sources(graph: Graph, name: str) -> list[str]:
    return [value[0] for value in graph[name]["inputs"].values() if is_link(value)]
