"""What the pack's page asks its server: the faces in a photo, and the picture of one of them.

    GET /echovideo/faces?filename=&subfolder=&type=input&padding=0
        -> {digest, message, width, height, faces: [{box, landmarks, confidence}], orders: {order: [position, ...]}}
    GET /echovideo/face?...&number=0[&parser=parsing_bisenet.pth]  -> JPEG

Only photos in the host's input folder are read. An error is {"error": {"type", "message"}}. One search runs at a time,
in a thread of its own, so that the host goes on answering.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web
from server import PromptServer

from ...echovideo_model.errors import (
    DependencyMissing,
    EchoVideoError,
    FaceIndexOutOfRange,
    InvalidRequest,
    ModelFileMissing,
    NoFaceFound,
    WrongModelFile,
)
from .faces import FaceSearch, NotServed

STATUS = {
    InvalidRequest: 400,
    NoFaceFound: 404,
    FaceIndexOutOfRange: 404,
    DependencyMissing: 503,
    ModelFileMissing: 503,
    WrongModelFile: 503,
}
Value = TypeVar("Value")


def register() -> None:
    """Adds the two routes to the host's server, where there is one."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    search, thread = FaceSearch(), ThreadPoolExecutor(1, thread_name_prefix="echovideo-faces")

    async def apart(work: Callable[..., Value], *arguments: Any) -> Value:
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)

    @server.routes.get("/echovideo/faces")
    async def faces(request: web.Request) -> web.Response:
        try:
            found = await apart(search.faces, *photo(request))
        except EchoVideoError as error:
            return refusal(error)
        return web.json_response(found.describe(), headers={"Cache-Control": "no-store"})

    @server.routes.get("/echovideo/face")
    async def face(request: web.Request) -> web.Response:
        try:
            number, parser = number_of(request, "number", int), request.query.get("parser")
            picture = await apart(search.picture, *photo(request), number, parser)
        except EchoVideoError as error:
            return refusal(error)
        return web.Response(
            body=picture, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
        )


def photo(request: web.Request) -> tuple[str, str, str, float]:
    """What both routes are asked for: name, subfolder, folder, padding."""
    query = request.query
    padding = number_of(request, "padding", float)
    return query.get("filename", ""), query.get("subfolder", ""), query.get("type", "input"), padding


def number_of(request: web.Request, name: str, kind: Callable[[str], Value]) -> Value:
    text = request.query.get(name, "0")
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidRequest(f'{name} is a number, not "{text}"') from error


def refusal(error: EchoVideoError) -> web.Response:
    status = error.status if isinstance(error, NotServed) else STATUS.get(type(error), 400)
    kind = InvalidRequest if isinstance(error, NotServed) else type(error)
    return web.json_response({"error": {"type": kind.__name__, "message": str(error)}}, status=status)
