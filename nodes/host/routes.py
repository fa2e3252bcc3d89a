"""The web routes for the pack's page: the faces in a photo, and the picture of one of them.

    GET /echovideo/faces?filename=&subfolder=&type=input&padding=0[&encoders=echovideo_nano_parser.safetensors]
        -> {digest, message, width, height, faces: [{box, landmarks, confidence}], orders: {order: [position, ...]}}
    GET /echovideo/face?...&number=0[&parser=parsing_bisenet.pth]  -> JPEG

`encoders` is the parser that the node chose: with nano's the faces are nano's detector's, else antelopev2's.

Only photos in the host's input folder are read. An error is {"error": {"type", "message"}}, without the server's paths,
which go to its log. One search runs at a time, in a thread of its own, so that the host keeps answering; one more per
client may wait, and those whose client has gone are dropped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import folder_paths
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

log = logging.getLogger(__name__)

STATUS = {
    InvalidRequest: 400,
    NoFaceFound: 404,
    FaceIndexOutOfRange: 404,
    DependencyMissing: 503,
    ModelFileMissing: 503,
    WrongModelFile: 503,
}
# The folders of an absolute path, in POSIX's and Windows's spelling; not those of an address or a relative path.
ABSOLUTE = re.compile(r"""(?<![\w.:/\\-])(?:[A-Za-z]:[\\/]|/)(?:[^\s/\\"'`;,()]+[\\/])*""")
Value = TypeVar("Value")


class ClientGone(EchoVideoError):
    """Nobody is waiting for the answer any more."""


def register() -> None:
    """Adds the two routes to the host's server, if there is one."""
    server = getattr(PromptServer, "instance", None)
    if server is None:
        return
    search, thread = FaceSearch(), ThreadPoolExecutor(1, thread_name_prefix="echovideo-faces")

    turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def apart(request: web.Request, work: Callable[..., Value], *arguments: Any) -> Value:
        def work_unless_gone() -> Value:
            if request.transport is None or request.transport.is_closing():
                raise ClientGone("the client did not wait for the answer")
            return work(*arguments)

        async with turns.setdefault(request.remote or "", asyncio.Lock()):
            return await asyncio.get_running_loop().run_in_executor(thread, work_unless_gone)

    @server.routes.get("/echovideo/faces")
    async def faces(request: web.Request) -> web.Response:
        try:
            found = await apart(request, search.faces, *read_query(request))
        except EchoVideoError as error:
            return make_refusal(error)
        return web.json_response(found.describe(), headers={"Cache-Control": "no-store"})

    @server.routes.get("/echovideo/face")
    async def face(request: web.Request) -> web.Response:
        try:
            number, parser = parse_number(request, "number", int), request.query.get("parser")
            picture = await apart(request, search.picture, *read_query(request), number, parser)
        except EchoVideoError as error:
            return make_refusal(error)
        return web.Response(
            body=picture, content_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"}
        )


def read_query(request: web.Request) -> tuple[str, str, str, float, str]:
    """What a request to either route asks for: name, subfolder, folder, padding, encoders."""
    query = request.query
    padding = parse_number(request, "padding", float)
    name, subfolder, kind = query.get("filename", ""), query.get("subfolder", ""), query.get("type", "input")
    return name, subfolder, kind, padding, query.get("encoders", "")


def parse_number(request: web.Request, name: str, kind: Callable[[str], Value]) -> Value:
    text = request.query.get(name, "0")
    try:
        return kind(text)
    except ValueError as error:
        raise InvalidRequest(f'{name} is a number, not "{text}"') from error


def make_refusal(error: EchoVideoError) -> web.Response:
    status = error.status if isinstance(error, NotServed) else STATUS.get(type(error), 400)
    kind = InvalidRequest if isinstance(error, NotServed) else type(error)
    message = shorten_paths(str(error))
    if message != str(error):
        log.warning("EchoVideo: %s", error)
    return web.json_response({"error": {"type": kind.__name__, "message": message}}, status=status)


def shorten_paths(message: str) -> str:
    """Paths below ComfyUI's folder are shown from there; of any other absolute path, only the last name."""
    home = str(Path(folder_paths.models_dir).parent)
    message = message.replace(home + os.sep, "").replace(home, "COMFYUI")
    return ABSOLUTE.sub("", message)
