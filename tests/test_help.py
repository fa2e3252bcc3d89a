"""What users read about the nodes, in every language: complete, true to the nodes' schemas, in the words agreed on."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from echovideo_model import errors
from echovideo_model.weights.loading import storage_dtype

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "web" / "docs"
NODES: dict[str, Any] = json.loads((ROOT / "tests" / "nodes.json").read_text(encoding="utf-8"))
LANGUAGES = ("zh", "zh-TW", "ko", "ja")
CHINESE = r"[\u4e00-\u9fff]"
OWN_LETTERS = {"zh": CHINESE, "zh-TW": CHINESE, "ko": r"[\uac00-\ud7a3]", "ja": r"[\u3040-\u30ff]"}
CHARACTER_SETS = {"zh": "gb2312", "zh-TW": "big5"}  # Simplified, Traditional
MAIN = "https://github.com/comfyui-echovideo/ComfyUI-EchoVideo/blob/main/"
MAX_LINES = 60
LARGEST_PICTURE = 100_000  # bytes: a help panel opens at once
NUMBER = re.compile(r"\d+(?:\.\d+)?")
LARGEST_NUMBER_WORD = 9  # "one photo" may become "1 photo" in a language that counts with figures
CODE, BOLD = re.compile(r"`([^`]+)`"), re.compile(r"\*\*(.+?)\*\*")

every_node = pytest.mark.parametrize("id", NODES)
every_translation = pytest.mark.parametrize("language", LANGUAGES)
every_language = pytest.mark.parametrize("language", ["en", *LANGUAGES])


@cache
def translations(language: str) -> dict[str, Any]:
    return json.loads((ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))


@cache
def page(id: str, language: str) -> str:
    path = DOCS / f"{id}.md" if language == "en" else DOCS / id / f"{language}.md"
    return path.read_text(encoding="utf-8")


def name_of(id: str, language: str) -> str:
    return (NODES if language == "en" else translations(language))[id]["display_name"]


def pairs(id: str, language: str) -> Iterator[tuple[str, str, str]]:
    """Every sentence of a node: where it stands, in English, translated."""
    english, translated = NODES[id], translations(language)[id]
    yield "description", english["description"], translated["description"]
    for one in english["inputs"]:
        yield one["id"], one["tooltip"], translated["inputs"][one["id"]]["tooltip"]
    for number, one in enumerate(english["outputs"]):
        yield one["name"], one["tooltip"], translated["outputs"][str(number)]["tooltip"]


def table(text: str, number: int) -> list[list[str]]:
    """The rows, cell by cell, of a Markdown text's table `number` from 0, without its head."""
    tables = re.findall(r"(?:^\|.*\|\n?)+", text, re.MULTILINE)
    rows = [re.split(r"(?<!\\)\|", row)[1:-1] for row in tables[number].strip().splitlines()]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def items(text: str, section: int) -> list[tuple[str, str]]:
    """The list in a help page's section (1 inputs, 2 outputs), as (what stands before the colon, what follows)."""
    part = re.split(r"^## .+$", text, flags=re.MULTILINE)[1 + section]
    return re.findall(r"^- ((?:[^`:：]*`[^`]+`)+)[:：] ?(.*)$", part, re.MULTILINE)


def sockets(text: str) -> list[tuple[str, str]]:
    """A help page's inputs and outputs, as (what the node shows, `what it is called`)."""
    heads = [head for section in (1, 2) for head, _ in items(text, section)]
    return [found for head in heads for found in re.findall(r"(?:[、,] ?)?([^`]*?) ?`([^`]+)`", head)]


README = (ROOT / "locales" / "README.md").read_text(encoding="utf-8")
WORDS = {row[0]: dict(zip(LANGUAGES, row[1:], strict=True)) for row in table(README, 1)}
HOST_NODES = [dict(zip(("id", "en", *LANGUAGES), row, strict=True)) for row in table(README, 2)]


def lacking(english: str, translated: str, language: str) -> list[str]:
    """The agreed words that stand in the English text and not, as agreed, in its translation."""
    prose = BOLD.sub("", CODE.sub("", english))
    present = [word for word in WORDS if re.search(rf"\b{word}", prose, re.IGNORECASE)]
    return [WORDS[word][language] for word in present if WORDS[word][language] not in translated]


def numbers(text: str) -> set[str]:
    return set(NUMBER.findall(text))


def same_numbers(english: str, translated: str) -> bool:
    added = numbers(translated) - numbers(english)
    return numbers(english) <= numbers(translated) and all(float(one) <= LARGEST_NUMBER_WORD for one in added)


# Names and tooltips


def test_there_are_translations_into_the_languages_that_the_tests_know() -> None:
    assert {path.parent.name for path in (ROOT / "locales").glob("*/*.json")} == {"en", *LANGUAGES}


@every_node
def test_the_english_template_says_what_the_nodes_say(id: str) -> None:
    for where, schema, template in pairs(id, "en"):
        assert template == schema, f"{where}: run scripts/node_schemas.py"
    template = translations("en")[id]
    assert template["display_name"] == NODES[id]["display_name"]
    shown = [one["name"] for kind in ("inputs", "outputs") for one in template[kind].values()]
    assert shown == [one["id"] for one in NODES[id]["inputs"]] + [one["name"] for one in NODES[id]["outputs"]]


@every_language
def test_every_node_is_translated_and_no_other(language: str) -> None:
    assert translations(language).keys() == NODES.keys()


@every_language
@every_node
def test_every_input_and_output_has_a_translated_name_and_tooltip_and_no_other_has(
    id: str, language: str
) -> None:
    translated = translations(language)[id]
    assert translated.keys() == {"display_name", "description", "inputs", "outputs"}
    assert list(translated["inputs"]) == [one["id"] for one in NODES[id]["inputs"]]
    assert list(translated["outputs"]) == [str(number) for number in range(len(NODES[id]["outputs"]))]
    for one in (*translated["inputs"].values(), *translated["outputs"].values()):
        assert one.keys() == {"name", "tooltip"}
        assert one["name"].strip()


@every_translation
@every_node
def test_every_tooltip_is_in_its_language_with_the_figures_and_the_words_agreed_on(
    id: str, language: str
) -> None:
    for where, english, translated in pairs(id, language):
        assert re.search(OWN_LETTERS[language], translated), where
        assert same_numbers(english, translated), f"{where}: {translated}"
        assert not lacking(english, translated, language), f"{where}: {translated}"


@every_translation
@every_node
def test_choices_that_a_tooltip_explains_keep_the_names_that_workflows_hold(id: str, language: str) -> None:
    translated = translations(language)[id]["inputs"]
    for one in NODES[id]["inputs"]:
        for choice in one.get("options", ()):
            if re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", one["tooltip"]) and choice != "frames":
                assert choice in translated[one["id"]]["tooltip"]


@every_language
@pytest.mark.parametrize("where", ["tooltip", "help page"])
def test_the_memory_that_the_transformer_takes_is_said_as_it_is(where: str, language: str) -> None:
    """Counted from the released parameters; the figures are in all languages the same."""
    shapes = json.loads((ROOT / "tests" / "golden" / "transformer_keys.json").read_text(encoding="utf-8"))
    said = page("EchoVideoLoadModel", language)
    if where == "tooltip":
        said = translations(language)["EchoVideoLoadModel"]["inputs"]["weight_dtype"]["tooltip"]
    for dtype in (torch.bfloat16, torch.float8_e4m3fn):
        stored = (storage_dtype(name, dtype).itemsize * math.prod(shape) for name, shape in shapes.items())
        assert f"{sum(stored) / 1e9:.2f} GB" in said


@every_language
def test_names_can_be_told_apart_and_found_under_echovideo(language: str) -> None:
    shown = [one["display_name"] for one in translations(language).values()]
    assert len(set(shown)) == len(shown)
    assert all("EchoVideo" in name for name in shown)


@every_language
def test_categories_are_translated(language: str) -> None:
    own = json.loads((ROOT / "locales" / language / "main.json").read_text(encoding="utf-8"))
    parts = {part for node in NODES.values() for part in node["category"].split("/")}
    assert own["nodeCategories"].keys() == parts


@every_language
def test_no_message_holds_a_sign_that_the_page_would_read_as_its_own(language: str) -> None:
    for path in (ROOT / "locales" / language).glob("*.json"):
        text = json.dumps(list(strings(json.loads(path.read_text(encoding="utf-8")))), ensure_ascii=False)
        assert not re.search(r"[{}@$|]", text), path


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    else:
        yield value


@pytest.mark.parametrize("language", CHARACTER_SETS)
def test_simplified_and_traditional_chinese_are_not_mixed(language: str) -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "locales" / language).glob("*.json")]
    texts += [page(id, language) for id in NODES]
    words = (ROOT / "web" / "words.js").read_text(encoding="utf-8")
    constant = {"zh": "SIMPLIFIED_CHINESE", "zh-TW": "TRADITIONAL_CHINESE"}[language]
    texts.append(words.split(f"const {constant} = {{")[1].split("\n};")[0])
    for text in texts:
        for character in re.findall(CHINESE, text):
            character.encode(CHARACTER_SETS[language])  # raises for one of the other script


# Help pages


def test_there_is_help_for_every_node_and_for_nothing_else() -> None:
    assert {path.stem for path in DOCS.glob("*.md")} == NODES.keys()
    translated = {str(path.relative_to(DOCS)) for path in DOCS.glob("*/*.md")}
    assert translated == {f"{id}/{language}.md" for id in NODES for language in LANGUAGES}


@every_language
@every_node
def test_a_help_page_explains_every_input_and_output_and_no_other(id: str, language: str) -> None:
    text = page(id, language)
    expected = [one["id"] for one in NODES[id]["inputs"]] + [one["name"] for one in NODES[id]["outputs"]]
    assert [name for _, name in sockets(text)] == expected
    assert all(meaning for section in (1, 2) for _, meaning in items(text, section))


@every_translation
@every_node
def test_a_translated_help_page_calls_sockets_what_the_node_calls_them(id: str, language: str) -> None:
    translated = translations(language)[id]
    shown = [one["name"] for kind in ("inputs", "outputs") for one in translated[kind].values()]
    assert [label or name for label, name in sockets(page(id, language))] == shown


@every_language
@every_node
def test_a_help_page_names_every_choice_of_a_list(id: str, language: str) -> None:
    found = set(CODE.findall(page(id, language)))
    for one in NODES[id]["inputs"]:
        assert set(one.get("options", ())) <= found, one["id"]


@every_language
@every_node
def test_a_help_page_is_short_and_begins_with_the_name_of_its_node(id: str, language: str) -> None:
    lines = page(id, language).splitlines()
    assert lines[0] == f"# {name_of(id, language)}"
    assert len(lines) <= MAX_LINES


@every_language
@every_node
def test_every_node_that_a_help_page_names_exists_under_that_name(id: str, language: str) -> None:
    ours = {name_of(other, language) for other in NODES}
    assert set(BOLD.findall(page(id, language))) <= ours | {one[language] for one in HOST_NODES}


@every_language
@every_node
def test_bold_names_end_where_the_page_s_markdown_sees_an_end(id: str, language: str) -> None:
    assert not re.search(r"[)）]\*\*\w", page(id, language))


@every_language
@every_node
def test_every_error_that_a_help_page_names_exists(id: str, language: str) -> None:
    said = re.findall(r"^- `([A-Z]\w+)`", page(id, language), re.MULTILINE)
    assert set(said) <= set(family())


@every_translation
@every_node
def test_a_translated_help_page_says_what_the_english_one_says(id: str, language: str) -> None:
    english, translated = page(id, "en"), page(id, language)
    assert re.search(OWN_LETTERS[language], translated)
    assert same_numbers(english, translated), numbers(english) ^ numbers(translated)
    assert sorted(CODE.findall(english)) == sorted(CODE.findall(translated))
    assert not lacking(english, translated, language)
    for part in (r"^## ", r"^- ", r"\\$", r"\*\*.+?\*\*"):
        assert len(re.findall(part, english, re.MULTILINE)) == len(
            re.findall(part, translated, re.MULTILINE)
        ), part


@every_language
@every_node
def test_the_first_section_ends_with_the_node_s_picture_and_no_other_has_one(id: str, language: str) -> None:
    text = page(id, language)
    ((alt, target),) = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", text)
    assert target == f"images/{id}.png"
    assert name_of(id, language) in alt
    assert text.split("\n## ")[1].endswith(f"]({target})\n")
    assert (DOCS / target).stat().st_size < LARGEST_PICTURE


def test_no_picture_is_left_over() -> None:
    assert {path.stem for path in (DOCS / "images").iterdir()} == NODES.keys()


@every_language
@every_node
def test_pictures_are_there_and_links_lead_somewhere_from_the_host_s_page(id: str, language: str) -> None:
    for picture, target in re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", page(id, language)):
        if picture:
            assert (DOCS / target).is_file(), target
        else:
            assert target.startswith("https://"), target
            if target.startswith(MAIN):
                assert (ROOT / target.removeprefix(MAIN)).is_file(), target


@every_language
@every_node
def test_a_page_of_this_project_is_a_link_and_not_only_a_name(id: str, language: str) -> None:
    assert not [named for named in CODE.findall(page(id, language)) if named.startswith("docs/")]


# Errors


def family() -> dict[str, type[errors.EchoVideoError]]:
    """The errors that users can meet, by name."""
    return {one.__name__: one for one in errors.EchoVideoError.__subclasses__()}


def test_every_error_has_a_section_in_the_troubleshooting_page_with_its_exit_status() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    sections = [heading for heading in re.findall(r"^## (\w+)$", text, re.MULTILINE)]
    assert sorted(sections) == sorted(family())
    for name, (_, _, status) in zip(sections, table(text, 0), strict=False):
        assert f"[{name}](#{name.lower()})" in text
        assert int(status) == family()[name].exit_code, name
