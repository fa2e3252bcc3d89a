"""`echovideo models list / download / install / verify`: lists, checks and downloads the weight files."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..errors import Cancelled, InvalidRequest, ModelFileMissing
from ..files import expand_user
from ..weights import checking, comfyui, download, released
from ..weights.comfyui import NAME as EXTRA_PATHS
from ..weights.comfyui import find_elsewhere, read_extra_folders
from ..weights.released import Licence, ModelFile
from . import say, say_json
from .arguments import add_json, add_models, find_models_folder


def register(subparsers: Any) -> None:
    """Adds `models` and its four actions to the parser of `echovideo`."""
    models = subparsers.add_parser("models", help="list, download, install and verify the weight files")
    actions = models.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the files needed, and which are there")
    getting = actions.add_parser("download", help="download what is missing or wrong")
    installing = actions.add_parser("install", help="download the nodes' files into a ComfyUI installation")
    checking = actions.add_parser("verify", help="check the sizes and hashes of the files")
    for parser, act in ((listing, _list), (getting, _download), (checking, _verify)):
        add_models(parser)
        parser.set_defaults(run=run, act=act)
    for parser in (listing, checking):
        add_json(parser)
    installing.add_argument(
        "--comfyui",
        type=expand_user,
        required=True,
        metavar="PATH",
        help="ComfyUI's folder (its extra_model_paths.yaml is read), or its base directory",
    )
    installing.set_defaults(run=run, act=_install)
    _add_fetching(getting, released.TABLE)
    _add_fetching(installing, comfyui.HOST)


def _add_fetching(parser: argparse.ArgumentParser, table: Sequence[ModelFile]) -> None:
    groups = ", ".join(dict.fromkeys(file.group for file in table))
    parser.add_argument(
        "--accept-licenses",
        action="store_true",
        help="accept the licences that forbid commercial use, without asking",
    )
    parser.add_argument("--only", nargs="+", metavar="GROUP", help=f"only these groups of files: {groups}")
    parser.add_argument("--endpoint", metavar="URL", help="a mirror of the Hub")


def run(args: argparse.Namespace) -> int:
    """Does the chosen action; 0 when all is well, 3 when `verify` finds files missing, wrong or damaged."""
    folder = _host_models(args.comfyui) if args.act is _install else find_models_folder(args)
    result: int = args.act(folder, args)
    return result


def _list(folder: Path, args: argparse.Namespace) -> int:
    checks = checking.verify(folder, released.TABLE, hashing=False)
    states = {check.file: "there" if check.status == "unchecked" else check.status for check in checks}
    if args.json:
        say_json(
            {"folder": str(folder), "files": [_list_facts(file) | {"state": states[file]} for file in states]}
        )
        return 0
    say(f"Models folder: {folder}")
    for group, about in released.GROUPS.items():
        files = [file for file in states if file.group == group]
        say(f"\n{group}: {about}, {_sum_sizes(files)}")
        for file in files:
            say(f"  {states[file]:<10}  {_format_size(file.size):>9}  {file.path}")
        for repository, licence in dict.fromkeys((file.repository, file.licence) for file in files):
            say(f"  from {repository}; {_describe_licence(licence)}")
    say(f"\nThe groups {', '.join(released.OPTIONAL)} are downloaded only when --only names them.")
    return 0


def _verify(folder: Path, args: argparse.Namespace) -> int:
    checks = checking.verify(folder, released.select())
    counts = Counter(check.status for check in checks)
    right = counts["ok"] + counts["unchecked"] == len(checks)
    if args.json:
        found = [
            _list_facts(check.file) | {"status": check.status, "detail": check.detail} for check in checks
        ]
        say_json({"folder": str(folder), "right": right, "files": found})
    else:
        say(f"Models folder: {folder}")
        for check in checks:
            say(f"  {check.status:<10}  {check.file.path}" + (f"  ({check.detail})" if check.detail else ""))
        say(", ".join(f"{count} {status}" for status, count in counts.items()))
        if counts["unchecked"]:
            say(
                "Unchecked files have no hash in the table, and only the headers of weights were read; "
                "`echovideo models download` compares them with the Hub."
            )
        if not right:
            say(f'Get missing, wrong or damaged files with: echovideo models download --models "{folder}"')
    return 0 if right else ModelFileMissing.exit_code


def _download(folder: Path, args: argparse.Namespace) -> int:
    files = released.select(args.only)
    absent = [
        check.file for check in checking.verify(folder, files, hashing=False) if check.status != "unchecked"
    ]
    _get(folder, files, absent, args)
    say(f"All {len(files)} files are present and correct: {folder}")
    return 0


def _install(models: Path, args: argparse.Namespace) -> int:
    """Gets what is missing and replaces nothing: a models folder of ComfyUI is the user's, other packs read it too."""
    files = comfyui.select_for_host(models, args.only)
    elsewhere = find_elsewhere(files, read_extra_folders(models.parent))
    checks = checking.verify(models, [file for file in files if file not in elsewhere])
    absent = [check.file for check in checks if check.status == "missing"]
    _get(models, absent, absent, args)
    say(f"All {len(files)} files are in place; if ComfyUI is running, press R on its page: {models}")
    for file, path in elsewhere.items():
        say(f"Found through {EXTRA_PATHS}, not checked: {PurePosixPath(file.path).name} in {path.parent}")
    for check in checks:
        if check.status in ("wrong size", "wrong hash", "damaged"):
            say(
                f"Left as it was: {check.file.path} is not the published file ({check.detail}). If it "
                "does not load, move it away and run this again."
            )
    return 0


def _host_models(comfyui: Path) -> Path:
    """The models folder of a ComfyUI, or of the base directory that it was started with. Raises InvalidRequest."""
    if not (comfyui / "models").is_dir():
        missing = "models/" if (comfyui / "main.py").is_file() else "main.py and models/"
        raise InvalidRequest(
            f'"{comfyui}" is not a ComfyUI folder because it lacks {missing}: give the one that '
            "contains main.py and models/, or the base directory that contains models/"
        )
    return comfyui / "models"


def _get(
    folder: Path, files: Sequence[ModelFile], absent: Iterable[ModelFile], args: argparse.Namespace
) -> None:
    """Plans and fetches `files`, after consent for those that are `absent`."""
    if not args.accept_licenses:
        _ask_for_consent(absent)
    try:
        offers = download.plan(folder, files, endpoint=args.endpoint)
        if offers:
            size = _sum_sizes([replace(offer.file, size=offer.size) for offer in offers])
            say(f"downloading {len(offers)} of {len(files)} files to {folder}, {size}")
            download.fetch(folder, offers)
    except KeyboardInterrupt as error:
        raise Cancelled("cancelled; run the same command again to resume") from error


def _ask_for_consent(files: Iterable[ModelFile]) -> None:
    """One question for all licences that forbid commercial use; raises InvalidRequest where nobody can be asked."""
    licences = dict.fromkeys(file.licence for file in files if file.licence.forbids_commercial_use)
    if not licences:
        return
    named = [_describe_licence(licence) for licence in licences]
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "licences that forbid commercial use need your consent, given with --accept-licenses: "
            f"{'; '.join(named)}"
        )
    say("\n  ".join(["Some of these weights may not be used commercially:", *named, "Do you accept? [y/N]"]))
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Cancelled("the licences were not accepted; nothing was downloaded")


def _list_facts(file: ModelFile) -> dict[str, Any]:
    """A row of the table for JSON."""
    return {
        "group": file.group,
        "path": file.path,
        "size": file.size,
        "sha256": file.sha256,
        "repository": file.repository,
        "revision": file.revision,
        "source": file.source,
        "licence": file.licence.name,
        "licence_url": file.licence.url,
        "forbids_commercial_use": file.licence.forbids_commercial_use,
    }


def _describe_licence(licence: Licence) -> str:
    return f"{licence.name}: {licence.url}"


def _sum_sizes(files: Sequence[ModelFile]) -> str:
    known = [file.size for file in files if file.size is not None]
    if not known:
        return "sizes unknown"
    unknown = len(files) - len(known)
    return _format_size(sum(known)) + (f" and {unknown} of unknown size" if unknown else "")


def _format_size(size: int | None) -> str:
    """A number of bytes in the decimal units that the Hub shows."""
    if size is None:
        return "unknown"
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.2f} {name}"
    return f"{size} B"
