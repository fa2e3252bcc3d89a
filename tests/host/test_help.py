"""What the page shows of a node besides the node itself: its help page, its translation; and that its sockets are
those that saved workflows know."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request

import pytest

from testbed.harness import PACK, Host
from testbed.schemas import CONTRACT, english, nodes_of

NODES = json.loads(CONTRACT.read_text(encoding="utf-8"))
LANGUAGES = ("ja", "ko", "zh", "zh-TW")


def text(host: Host, path: str) -> str:
    with urllib.request.urlopen(f"http://{host.address}{path}", timeout=60) as answer:
        assert "text/html" not in answer.headers["Content-Type"]  # the page takes that for an error
        return answer.read().decode()


def test_this_host_describes_every_node_as_the_contract_does(host: Host) -> None:
    assert nodes_of(host.get("/object_info")) == NODES


@pytest.mark.parametrize("id", NODES)
def test_its_help_is_where_the_page_asks_for_it(host: Host, id: str) -> None:
    module = host.get(f"/object_info/{id}")[id]["python_module"]
    folder = module.split(".")[1]
    docs = PACK / "web" / "docs"
    assert text(host, f"/extensions/{folder}/docs/{id}.md") == (docs / f"{id}.md").read_text(encoding="utf-8")
    for language in LANGUAGES:
        served = text(host, f"/extensions/{folder}/docs/{id}/{language}.md")
        assert served == (docs / id / f"{language}.md").read_text(encoding="utf-8")


def test_a_language_without_help_gets_the_english_one(host: Host) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404"):  # upon which the page asks for the English one
        text(host, "/extensions/ComfyUI-EchoVideo/docs/EchoVideoIdentity/fr.md")


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_the_host_gives_its_page_our_translations(host: Host, language: str) -> None:
    given = host.get("/i18n")[language]
    own = json.loads((PACK / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    assert {id: given["nodeDefs"][id] for id in own} == own
    assert given["nodeCategories"]["EchoVideo"]


def test_the_english_template_is_what_the_page_shows_of_the_schema(host: Host) -> None:
    for name, content in english(nodes_of(host.get("/object_info"))).items():
        assert content == json.loads((PACK / "locales" / "en" / name).read_text(encoding="utf-8"))


def test_the_host_has_the_nodes_of_its_own_that_help_speaks_of(host: Host) -> None:
    listed = (PACK / "locales" / "README.md").read_text(encoding="utf-8").split("## Nodes of the host")[1]
    ids = re.findall(r"^\| (\w+) \|", listed, re.MULTILINE)[1:]  # without the table's head
    assert ids
    assert set(ids) <= host.get("/object_info").keys()
