"""Names of people's choosing: what is refused where they come in, and that none of them acts where
it goes.
"""

from __future__ import annotations

import ast
import csv
import io
import posixpath
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from pydantic import ValidationError

from medvision.data.settings import Preparation
from medvision.metrics.settings import OwnMetric
from medvision.models.registry import resolve_settings
from orchestrator.spec.yaml_file import SpecError, load_spec
from orchestrator.tracking.server import key, key_part
from record.names import LONGEST, checked, read_back, spreadsheet_text, visible
from record.terminal import say
from reports.render.layout import Cell, Section, Table, begun, markdown, to_csv, to_markdown
from reports.render.tex import file_part

ROOT = Path(__file__).parents[2]
ESCAPES = "\x1b[2J\x1b]0;owned\x07"
HOSTILE = [
    '=HYPERLINK("http://attacker.example","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\uff1d1+1",
    "'=1",
    "<img src=x onerror=document.title=1>",
    "</script><script>document.title=1</script>",
    "![x](http://attacker.example)",
    "[x](javascript:alert(1))",
    "[x]: javascript:alert(1)",
    "<javascript:alert(1)>",
    "| a | b |",
    "# a",
    "> a",
    "- a",
    "1. a",
    "```",
    "a\\",
    "\\[x](y)",
    "\\input{/etc/passwd}",
    "$\\frac{",
    "$x$",
    "../../../esc",
    "CON",
    "A_B",
    "a_b",
    "{{ 7 * 7 }}",
    "x" * LONGEST,
]
UNSEEN = [
    ESCAPES,
    "a\rb",
    "a\nb",
    "a\0b",
    "\u202eevil",
    "a\u200bb",
    "\ud800",
    "a\u2028b",
    "a\u00a0b",
]
texts = st.text(max_size=30) | st.sampled_from(HOSTILE + UNSEEN)
MANY = settings(deadline=None, max_examples=150)


@pytest.mark.parametrize("name", [*UNSEEN, "", " ", "x" * (LONGEST + 1)])
def test_what_cannot_be_read_is_no_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name") as caught:
        checked(name)
    assert str(caught.value).isprintable()
    with pytest.raises(ValueError, match="name"):
        resolve_settings("ViT_Baseline", name=name)
    with pytest.raises(ValidationError):
        Preparation(groups={name: "all"}, image_size=(8, 8, 8))
    (tmp_path / "m.py").write_text("def f(prediction, truth, spacing):\n    return 1.0\n")
    with pytest.raises(ValidationError, match="title"):
        OwnMetric.model_validate(
            {"name": "mine", "function": "m:f", "title": name}, context={"folder": tmp_path}
        )


@pytest.mark.parametrize("name", HOSTILE[:4] + HOSTILE[7:])
def test_what_can_be_read_is_a_name(name: str) -> None:
    assert checked(name) == name


@pytest.mark.parametrize("name", ["CON", "nul", "aux.1", "LPT1", "study."])
def test_folders_have_names_that_windows_takes(name: str, tmp_path: Path) -> None:
    for text in (
        f"name: {name}\nmodels: [ViT_Baseline]\ntasks: [Task02_Heart]\n",
        f"name: fine\nmodels: [ViT_Baseline]\ntasks: [{name}]\n",
    ):
        (tmp_path / "spec.yaml").write_text(text)
        with pytest.raises(SpecError, match="Windows"):
            load_spec(tmp_path / "spec.yaml")


@MANY
@given(texts)
def test_a_terminal_shows_every_text_and_obeys_none(text: str) -> None:
    shown = visible(text)
    assert not {unicodedata.category(one) for one in shown if one not in "\n\t"} & {
        "Cc",
        "Cf",
        "Cs",
    }
    if text.isprintable():
        assert shown == text


def test_whatever_a_command_says_goes_through_that() -> None:
    for room in ("medvision", "orchestrator", "reports", "record"):
        for path in (ROOT / room).rglob("*.py"):
            called = [
                node.lineno
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
            ]
            assert not called or path.name == "terminal.py", f"{path}:{called}: say it"


def test_say_writes_controls_out(capsys: pytest.CaptureFixture[str]) -> None:
    say("a", ESCAPES, "\u202eb")
    assert capsys.readouterr().out == "a \\x1b[2J\\x1b]0;owned\\x07 \\u202eb\n"


@MANY
@given(texts.filter(lambda text: "\ud800" not in text))  # which pandas does not hold
def test_no_text_of_a_table_is_a_formula_and_each_is_found_again(text: str) -> None:
    frame = pd.DataFrame({"model": [text], "dice": [-0.5], text or "x": ["y"]})
    header, (first, second, *_) = csv.reader(io.StringIO(to_csv(frame), newline=""))
    assert second == "-0.5"
    for shown in (first, *header):
        assert not re.match(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]", shown) or is_number(shown)
    assert read_back(spreadsheet_text(text)) == text


def is_number(text: str) -> bool:
    try:
        float(text.rstrip("%").replace(",", ""))
    except ValueError:
        return False
    return True


PARSER = MarkdownIt("commonmark").enable("table")
INERT = {"paragraph_open", "paragraph_close", "inline"}
PLAIN = {"text", "text_special", "softbreak", "em_open", "em_close", "strong_open", "strong_close"}
PLAIN |= {"code_inline"}


@MANY
@given(texts)
@example("a](b)")
@example("<a\nb>")
@example("0. a")
@example("&lt;b&gt;")
def test_a_text_in_markdown_is_a_paragraph_and_loads_nothing(text: str) -> None:
    for token in PARSER.parse(begun(text)):
        assert token.type in INERT
        assert {child.type for child in token.children or ()} <= PLAIN
    assert "\n" not in markdown(text)


@MANY
@given(texts, texts)
def test_a_table_in_markdown_keeps_its_cells(one: str, two: str) -> None:
    table = Table(one, [one, "b"], "ll", [[Cell(two, best=True), Cell("x")]] * 2, footer=two)
    found = to_markdown(Section("s", two, [table], pd.DataFrame(), [one], [two]), "study")
    tokens = PARSER.parse(found)
    kinds = [token.type for token in tokens]
    assert kinds.count("table_open") == 1
    assert kinds.count("th_open") == 2
    assert kinds.count("td_open") == 4
    assert kinds.count("list_item_open") == 1
    assert kinds.count("heading_open") == (2 if one else 1)
    inline = {child.type for token in tokens for child in token.children or ()}
    assert inline <= PLAIN


@MANY
@given(st.lists(texts, min_size=2, max_size=6, unique=True))
@example(["Net", "net", "NET"])
@example(["A B", "A_B-" + file_part("A B")[-12:]])
def test_no_two_names_share_a_file_on_any_disk(names: list[str]) -> None:
    pairs = [(one, two) for one in names for two in names]
    found = [file_part(name, among=names) for name in names]
    found += [file_part(*pair, among=names) for pair in pairs]
    assert len({name.lower() for name in found}) == len(found)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,140}", name) for name in found)


@MANY
@given(st.lists(texts, min_size=2, max_size=6, unique=True))
@example(["a/b", "a_b"])
@example(["a@b", "a_at_b"])
@example(["..", "."])
def test_mlflow_takes_every_key_and_no_two_names_share_one(names: list[str]) -> None:
    found = [key(f"Dice/{key_part(name)}") for name in names]
    assert len(set(found)) == len(found)
    for name in [*found, *map(key, names)]:  # what mlflow.utils.validation asks of a key
        assert re.fullmatch(r"[/\w.\- :]{1,250}", name)
        assert posixpath.normpath(name) == name
        assert not name.startswith(("/", ".."))
    assert key("test/nsd@1.0") == "test/nsd_at_1.0"
