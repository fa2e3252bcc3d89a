"""Where the nodes of a graph stand on the page: columns from left to right, and in each from the top down."""

from __future__ import annotations

from graphs import Graph

from .described import is_link

WIDTH, COLUMN, GAP, TOP = 360, 420, 60, 120
SHOWN = {"CLIPTextEncode": 130, "LoadImage": 300, "EchoVideoIdentity": 260, "SaveVideo": 280}


def height(kind: str, sockets: int, widgets: int) -> int:
    """Room for a node's rows and for what it shows besides: text fields, pictures, videos."""
    return 60 + 22 * sockets + 26 * widgets + SHOWN.get(kind, 0)


def places(graph: Graph, heights: dict[str, int]) -> dict[str, list[int]]:
    """Node -> left and top."""
    columns = depths(graph)
    bottoms: dict[int, int] = {}
    result = {}
    for name in graph:
        column = columns[name]
        top = bottoms.get(column, TOP)
        bottoms[column] = top + heights[name] + GAP
        result[name] = [COLUMN * (column + 1), top]
    return result


def depths(graph: Graph) -> dict[str, int]:
    """The column of every node: one to the right of everything that it reads."""
    result: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in result:
            sources = [value[0] for value in graph[name]["inputs"].values() if is_link(value)]
            result[name] = 1 + max(map(depth, sources), default=-1)
        return result[name]

    for name in graph:
        depth(name)
    return result
