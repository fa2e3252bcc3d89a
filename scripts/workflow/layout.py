"""Where the nodes of a graph stand on the page: columns from left to right, and in each from the top down."""

from __future__ import annotations

from testbed.graphs import Graph

from .described import is_link

COLUMN, GAP, TOP = 420, 50, 120  # the bar above a node takes 30 of the gap
LOWER = {1: 60, 2: 60}  # these columns begin lower: above them runs the link from the model to the sampler
WIDTH = 360
WIDE = {"SaveVideo": 600}  # in the last column; what it shows is what all of it is for
SHOWN = {
    "CLIPTextEncode": 130,
    "LoadImage": 300,
    "EchoVideoIdentity": 300,
    "EchoVideoVideoSize": 90,
    "EchoVideoIdentityScore": 190,
    "PreviewAny": 70,
    "SaveVideo": 480,
}
LOOK_2 = {"CLIPTextEncode": 0, "LoadImage": 420}  # text stays as high; 0.8.0 shows photos as wide as the node
LEFT = ("Load", "TextEncode")  # what a workflow begins with
BELOW = ("VAEDecode", "VAEDecodeTiled", "CreateVideo", "PreviewAny")  # small: they stand below what they read


def width(kind: str) -> int:
    return WIDE.get(kind, WIDTH)


def height(kind: str, sockets: int, widgets: int) -> int:
    """Room for a node's rows, as the page counts them, and for what it shows besides: text, pictures, videos."""
    return 16 + 20 * sockets + 24 * widgets + SHOWN.get(kind, 0)


def room(kind: str, sockets: int, widgets: int) -> int:
    """The height in Nodes 2.0, whose rows are higher and which puts a footer below."""
    shown = (SHOWN | LOOK_2).get(kind, 0)
    return max(height(kind, sockets, widgets), 52 + 20 * sockets + 34 * widgets + shown)


def places(graph: Graph, rooms: dict[str, int]) -> dict[str, list[int]]:
    """Node -> left and top; nothing overlaps in either of the page's looks."""
    column_of = columns(graph)
    bottoms: dict[int, int] = {}
    result = {}
    for name in graph:
        column = column_of[name]
        top = bottoms.get(column, TOP + LOWER.get(column, 0))
        bottoms[column] = top + rooms[name] + GAP
        result[name] = [COLUMN * (column + 1), top]
    return result


def columns(graph: Graph) -> dict[str, int]:
    """Each node right of what it reads, and as near to what reads it as that allows; the beginning at the left."""
    result = depths(graph)
    for name in sorted(graph, key=lambda name: result[name], reverse=True):
        readers = [other for other in graph if name in sources(graph, other)]
        if readers and not any(part in graph[name]["class_type"] for part in LEFT):
            result[name] = min(result[reader] - step(graph, reader) for reader in readers)
    return result


def depths(graph: Graph) -> dict[str, int]:
    """How many steps there are from the loaders to each node."""
    result: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in result:
            furthest = max(map(depth, sources(graph, name)), default=None)
            result[name] = 0 if furthest is None else furthest + step(graph, name)
        return result[name]

    for name in graph:
        depth(name)
    return result


def sources(graph: Graph, name: str) -> list[str]:
    return [value[0] for value in graph[name]["inputs"].values() if is_link(value)]


def step(graph: Graph, name: str) -> int:
    return 0 if graph[name]["class_type"] in BELOW else 1
