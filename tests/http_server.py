"""A Hub on 127.0.0.1 that answers as the real one does, except where it is told to misbehave.

It speaks what huggingface_hub asks of it: HEAD and GET of /OWNER/NAME/resolve/REVISION/PATH with ETag,
X-Repo-Commit, Content-Length and byte ranges. All addresses are of this machine; no request leaves it.
"""

from __future__ import annotations

import hashlib
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

COMMIT = "c0ffee" + "0" * 34
_ERROR_CODES = {404: "EntryNotFound", 403: "GatedRepo"}


@dataclass
class Served:
    """One file of the Hub, and what goes wrong with it."""

    content: bytes
    etag: str | None = None  # None: the sha256 of the content, as for the Hub's large files
    statuses: list[int] = field(default_factory=list)  # the next requests get these in place of the file
    drops: list[int] = field(default_factory=list)  # the next GETs lose the connection after so many bytes
    resets: bool = False  # a lost connection ends with RST, not FIN
    ranges: bool = True  # False: every GET gets the whole file
    stated_size: int | None = None  # what HEAD says, when it lies
    sent: bytes | None = None  # what GET sends, when it is something else
    sends_length: bool = (
        True  # False: GET ends by closing, so that the client cannot tell whether it is whole
    )
    stalls_after: int | None = None  # GET goes silent after so many bytes, until the Hub is closed

    @property
    def tag(self) -> str:
        return self.etag or hashlib.sha256(self.content).hexdigest()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    range: str | None
    authorization: str | None


class Hub:
    """`with Hub({"owner/name/path": Served(...)}) as hub:` serves at `hub.address` and notes `hub.requests`."""

    def __init__(self, files: dict[str, Served]) -> None:
        self.files = files
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Hub:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def gets(self) -> list[Request]:
        return [request for request in self.requests if request.method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"
    wbufsize = 0

    def log_message(self, format: str, *args: object) -> None:
        """Silence: the tests read `hub.requests`."""

    def do_HEAD(self) -> None:
        if (served := self._find()) is not None:
            size = len(served.content) if served.stated_size is None else served.stated_size
            self._head(200, served, size)

    def do_GET(self) -> None:
        if (served := self._find()) is None:
            return
        body = served.content if served.sent is None else served.sent
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and served.ranges else 0
        if wanted and served.ranges and start >= len(body):
            self._refuse(416)
            return
        part = body[start:]
        self._head(
            206 if wanted and served.ranges else 200, served, len(part) if served.sends_length else None
        )
        if served.stalls_after is not None:
            self.wfile.write(part[: served.stalls_after])
            self.hub.stalled.set()
            self.hub.closing.wait()
            self.close_connection = True
        elif served.drops:
            self.wfile.write(part[: served.drops.pop(0)])
            self._hang_up(served.resets)
        else:
            self.wfile.write(part)
            self.close_connection = not served.sends_length

    def _find(self) -> Served | None:
        """The file that the path names; answers by itself when there is none, or when it is told to fail."""
        self.hub.requests.append(
            Request(self.command, self.path, self.headers.get("Range"), self.headers.get("Authorization"))
        )
        owner, name, _, _, *path = self.path.lstrip("/").split("/")
        served = self.hub.files.get("/".join([owner, name, *path]))
        status = 404 if served is None else served.statuses.pop(0) if served.statuses else 200
        if status != 200:
            self._refuse(status)
            return None
        return served

    def _head(self, status: int, served: Served, length: int | None) -> None:
        self.send_response(status)
        self.send_header("ETag", f'"{served.tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        if status in _ERROR_CODES:
            self.send_header("X-Error-Code", _ERROR_CODES[status])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:  # no lingering: closing discards what is unsent and sends RST
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
