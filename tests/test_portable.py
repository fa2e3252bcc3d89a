"""What would work here and fail on Windows or a Mac, told from the source: encodings, and what POSIX alone has."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("echovideo_model", "nodes", "testbed", "scripts", "benchmarks", "docs")
FILES = [file for folder in SHIPPED for file in sorted((ROOT / folder).rglob("*.py"))]
# In os and in signal; the code that asks first (hasattr, getattr) names them as text.
POSIX_ALONE = {
    "uname",
    "fork",
    "getuid",
    "geteuid",
    "getpgid",
    "killpg",
    "mkfifo",
    "SIGHUP",
    "SIGKILL",
    "SIGALRM",
}


def names_encoding(call: ast.Call, position: int) -> bool:
    return len(call.args) > position or any(word.arg in ("encoding", None) for word in call.keywords)


def is_binary(call: ast.Call, position: int) -> bool:
    """Whether the mode, at `position` among the arguments or by name, is bytes or is not written out."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] + call.args[position : position + 1]
    return any(not isinstance(mode, ast.Constant) or "b" in str(mode.value) for mode in modes)


def encodings_left_open(tree: ast.AST) -> Iterator[int]:
    """The lines where text is read or written in whatever encoding the machine prefers."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        text = any(word.arg == "text" and getattr(word.value, "value", False) for word in call.keywords)
        if (
            (name == "read_text" and not names_encoding(call, 0))
            or (name == "write_text" and not names_encoding(call, 1))
            or (name == "open" and owner is None and not is_binary(call, 1) and not names_encoding(call, 3))
            or (text and name in ("run", "Popen", "check_output") and not names_encoding(call, 99))
        ):
            yield call.lineno


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_text_is_read_and_written_as_utf_8(file: Path) -> None:
    assert list(encodings_left_open(ast.parse(file.read_text(encoding="utf-8")))) == []


def test_the_lint_finds_what_it_is_for() -> None:
    wrong = (
        "open('a')\nopen('a', 'w')\nPath('a').read_text()\nPath('a').write_text('b')\nrun(['a'], text=True)"
    )
    right = "open('a', 'rb')\nopen('a', encoding='utf-8')\nPath('a').read_text('utf-8')\nrun(['a'])"
    assert sorted(encodings_left_open(ast.parse(wrong))) == [1, 2, 3, 4, 5]
    assert list(encodings_left_open(ast.parse(right))) == []


def test_no_shipped_file_needs_what_posix_alone_has() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno}: {node.value.id}.{node.attr}"
        for file in FILES
        if file.relative_to(ROOT).parts[0] in ("echovideo_model", "nodes")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in ("os", "signal")
        and node.attr in POSIX_ALONE
    ]
    assert found == []
