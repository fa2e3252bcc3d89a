"""Downloads the weight files from the Hub.

huggingface_hub moves the bytes. Since its release 2 `hf_hub_download` throws away what had arrived when it is
interrupted, so its `http_get`, which can go on from any byte, writes here to `NAME.xxxxxxxx.part` beside the final
name. That part is renamed only after its size and hash have proved right: the final name never holds a wrong file.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path, PurePosixPath
from typing import TypeVar, cast
from urllib.parse import urlsplit

from huggingface_hub import constants, get_hf_file_metadata, get_token, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import WeakFileLock, build_hf_headers

from .. import __version__
from ..errors import DependencyMissing, InvalidRequest, ModelFileMissing, WrongModelFile
from ..files import check_writable
from .checking import check_content, compare
from .headers import recognise
from .released import NEEDED, ModelFile

Result = TypeVar("Result")

HUB = ("https", "huggingface.co")
"""Where the user's access token may go: to nobody else, and never in the clear."""
PAUSE = 1.0  # seconds before the second attempt; doubled before each further one
_ATTEMPTS = 4  # in a row without new bytes
# The Hub's own error has the HTTP library's (requests, httpx, ... by release) as its base.
# ImportError and ValueError come from proxies that it cannot use.
_TROUBLE = cast("tuple[type[Exception], ...]", (OSError, ImportError, ValueError, *HfHubHTTPError.__bases__))
_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM}


@dataclass(frozen=True)
class Offer:
    """What the Hub has for one file: `digest` is a sha256 (64 hex digits) or git's blob hash (40), None if neither."""

    file: ModelFile
    url: str
    size: int | None
    digest: str | None


def plan(folder: Path, files: Iterable[ModelFile] = NEEDED, *, endpoint: str | None = None) -> list[Offer]:
    """The files to download: asks the Hub about each file that is missing or not known to be right.

    `endpoint` is the address of a mirror of the Hub; by default what HF_ENDPOINT says, else the Hub itself.
    Raises ModelFileMissing (it cannot be had), WrongModelFile (the Hub has another file than the table says),
    InvalidRequest (an endpoint that is not an address).
    """
    endpoint = _check_address(constants.ENDPOINT if endpoint is None else endpoint)
    offers = []
    for file in files:
        path = folder / file.path
        if file.sha256 is not None and compare(path, file.size, file.sha256)[0] == "ok":
            continue
        offer = _ask(file, endpoint)
        if file.sha256 is not None or _find_fault(path, offer) is not None:
            offers.append(offer)
    return offers


def fetch(folder: Path, offers: Sequence[Offer]) -> list[Path]:
    """Fetches what `plan` found; each file is then there whole and right, or not at all.

    What arrived before an interruption (KeyboardInterrupt included) is kept beside the file and gone on from.
    Raises InvalidRequest (no space, folder not writable or in use), ModelFileMissing, WrongModelFile.
    """
    check_writable(folder / "download")
    _refuse_without_space(folder, offers)
    targets = [folder / offer.file.path for offer in offers]
    with _lock(folder, targets):
        return [_fetch(target, offer) for target, offer in zip(targets, offers, strict=True)]


def _check_address(endpoint: str) -> str:
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        sound = False
    if not sound:
        raise InvalidRequest(
            f'"{endpoint}" is not a mirror\'s address: it must look like https://host or http://host'
        )
    return endpoint.rstrip("/")


def _token(url: str) -> bool | None:
    """What huggingface_hub takes for "the user's access token, if there is one" (None) or for none (False): see HUB.

    Raises InvalidRequest for a token that no request can carry.
    """
    parts = urlsplit(url)
    if (parts.scheme, parts.hostname) != HUB:
        return False
    if not re.fullmatch(r"[!-~]*", get_token() or ""):
        raise InvalidRequest(
            "the Hub's access token (HF_TOKEN, or the one that `hf auth login` saved) contains an "
            "invalid character: copy it again from https://huggingface.co/settings/tokens, or unset it"
        )
    return None


def _ask(file: ModelFile, endpoint: str) -> Offer:
    """The Hub's statement of a file, which must not contradict the table."""
    on_the_web = "://" in file.repository
    if on_the_web:
        url = f"{file.repository}/{file.source}"
    else:
        url = hf_hub_url(file.repository, file.source, revision=file.revision, endpoint=endpoint)
    stated = _retry(file, url, lambda: get_hf_file_metadata(url, token=_token(url)))
    # Elsewhere an ETag may look like a hash and be none.
    is_digest = not on_the_web and re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{40}", stated.etag or "")
    digest = stated.etag if is_digest else None
    sha256 = digest if digest and len(digest) == 64 else None
    for expected, got, unit in ((file.size, stated.size, "bytes"), (file.sha256, sha256, "as sha256")):
        if expected is not None and got is not None and expected != got:
            raise WrongModelFile(
                f"{file.path} is a different file at {url}: expected {expected} {unit}, got {got}; "
                "choose another mirror with --endpoint"
            )
    if (
        stated.commit_hash is not None and not on_the_web
    ):  # from now on this very version, whatever is uploaded meanwhile
        url = hf_hub_url(file.repository, file.source, revision=stated.commit_hash, endpoint=endpoint)
    return Offer(file, url, file.size if stated.size is None else stated.size, file.sha256 or digest)


def _fetch(target: Path, offer: Offer) -> Path:
    part = _part_path(target, offer)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        resumed = part.exists()
        _transfer(offer, part)
        fault = _find_fault(part, offer)
        if fault and (resumed or part.stat().st_size != offer.size):
            # Bytes of an earlier run, or a server that started over, may be to blame: try again from the first byte.
            part.unlink()
            _transfer(offer, part)
            fault = _find_fault(part, offer)
        if fault:
            part.unlink()
            raise WrongModelFile(
                f"{offer.file.path} from {offer.url} is wrong: {fault}; it was discarded, so run the "
                "same command again or choose a mirror with --endpoint"
            )
        os.replace(part, target)
        for stale in target.parent.glob(
            escape(target.name) + ".*part"
        ):  # of versions that are no longer offered
            stale.unlink()
    except OSError as error:
        raise InvalidRequest(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    return target


def _transfer(offer: Offer, part: Path) -> None:
    """Brings `part` to the offered size, resuming from what is there. Does not check whether it is correct."""
    headers = build_hf_headers(
        token=_token(offer.url), library_name="comfyui-echovideo", library_version=__version__
    )
    headers["Accept-Encoding"] = "identity"  # a compressed answer could not be resumed

    def go_on() -> None:
        with part.open("wb" if offer.size is None else "ab") as stream:
            have = stream.seek(0, os.SEEK_END)
            if offer.size is not None and have >= offer.size:
                return
            http_get(
                offer.url,
                stream,
                resume_size=have,
                headers=headers,
                expected_size=offer.size,
                displayed_filename=offer.file.path,
            )
            stream.flush()
            os.fsync(stream.fileno())

    _retry(offer.file, offer.url, go_on, arrived=lambda: part.stat().st_size if part.exists() else 0)


def _retry(
    file: ModelFile, url: str, work: Callable[[], Result], arrived: Callable[[], int] = lambda: 0
) -> Result:
    """Calls `work` again after network trouble, as long as that brings new bytes or may still do so."""
    failures = 0
    while True:
        before = arrived()
        try:
            return work()
        except _TROUBLE as error:
            if "socks" in str(error).lower() and not isinstance(error, OSError):
                raise DependencyMissing(_socks_sentence()) from error
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            failures = 1 if arrived() > before else failures + 1
            if failures == _ATTEMPTS or _is_final(error):
                raise ModelFileMissing(_explain(file, url, error, arrived())) from error
        time.sleep(PAUSE * 2 ** (failures - 1))


def _http_status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_final(error: Exception) -> bool:
    return isinstance(error, (OfflineModeIsEnabled, ImportError, ValueError)) or _http_status(error) in (
        401,
        403,
        404,
        410,
    )


def _is_unreachable(error: Exception) -> bool:
    """Whether there was no connection at all: known by the class's name, which the HTTP libraries share."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectError", "ConnectTimeout", "ConnectionError", "ProxyError"})


def _socks_sentence() -> str:
    package = "PySocks" if HfHubHTTPError.__bases__[0].__module__.startswith("requests") else "socksio"
    return (
        f"the proxy in your environment (ALL_PROXY, HTTPS_PROXY) uses SOCKS, which needs {package}: "
        f'"{sys.executable}" -m pip install {package}'
    )


def _explain(file: ModelFile, url: str, error: Exception, arrived: int) -> str:
    status = _http_status(error)
    if status in (401, 403):
        remedy = "access is denied: log in with `hf auth login` using an account that may read it"
    elif status in (404, 410):
        remedy = (
            "it does not exist there: choose a mirror with --endpoint, or copy the file into place yourself"
        )
    elif isinstance(error, OfflineModeIsEnabled):
        remedy = "huggingface_hub is in offline mode: unset HF_HUB_OFFLINE"
    else:
        remedy = "run the same command again to resume, or choose a mirror with --endpoint"
    cause = f"HTTP {status}" if status else (str(error).strip().splitlines() or [type(error).__name__])[0]
    cause = cause.rstrip(". ")
    if _is_unreachable(error):
        return (
            f"{urlsplit(url).hostname} cannot be reached ({cause}) to download {file.path} from {url} "
            f"({arrived} bytes are here already); {remedy}"
        )
    return (
        f"{file.path} cannot be downloaded from {url}: {cause} ({arrived} bytes are here already); {remedy}"
    )


def _part_path(target: Path, offer: Offer) -> Path:
    """Where the bytes wait: named after the hash, so that a download never resumes from another version's bytes."""
    return target.with_name(f"{target.name}.{(offer.digest or 'unknown')[:8]}.part")


def _find_fault(path: Path, offer: Offer) -> str | None:
    """What is wrong with a file; None if it is correct as far as the offer and its content tell.

    Without a hash in the table it is looked into. A hash that the server itself states proves that all of it arrived,
    but not whether it is an error page.
    """
    status, detail = compare(path, offer.size, offer.digest)
    if status != "ok" and not (status == "unchecked" and offer.digest is None):
        return detail or status
    if offer.digest is None:
        try:
            check_content(path, PurePosixPath(offer.file.path).name)
        except WrongModelFile as error:
            return str(error)
    elif offer.file.sha256 is None and (what := recognise(path)):
        return f"it is {what}"
    return None


def _refuse_without_space(folder: Path, offers: Sequence[Offer]) -> None:
    parts = [(offer, _part_path(folder / offer.file.path, offer)) for offer in offers]
    needed = sum(
        max(0, (offer.size or 0) - (part.stat().st_size if part.exists() else 0)) for offer, part in parts
    )
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise InvalidRequest(
            f"{needed / 1e9:.2f} GB are needed, but only {free / 1e9:.2f} GB are free in {folder}: free "
            "some space or choose another folder"
        )


@contextmanager
def _lock(folder: Path, targets: Sequence[Path]) -> Iterator[None]:
    """Keeps a second download out of the folder: two writers would spoil a part that both resume from.

    Folders that are made here for `targets` and stay empty are removed.
    """
    wanted = {place for target in targets for place in target.absolute().parents}
    made = sorted((place for place in wanted if not place.exists()), key=lambda place: -len(place.parts))
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / ".download.lock"
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(WeakFileLock(lock, timeout=1))
            except TimeoutError as error:
                raise InvalidRequest(
                    f"another download into {folder} is running: wait until it finishes"
                ) from error
            yield
    finally:
        for place in made:
            with suppress(OSError):  # not empty: something arrived
                if [*place.iterdir()] == [lock.absolute()]:
                    lock.unlink()
                place.rmdir()
