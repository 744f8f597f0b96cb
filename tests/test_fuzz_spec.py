"""Whatever a spec file or an override holds, a dry run ends in a plan or in errors of one line
each.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.run import main as run
from orchestrator.spec.yaml_file import SpecError, load_spec

ROOT = Path(__file__).parents[1]
SPECS = [path.read_text() for path in sorted((ROOT / "ablations").glob("*.yaml"))]
BOUNDED = settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.dates(),
    st.sampled_from(
        [
            "full",
            "match x",
            "MedVisionLlama",
            "all",
            "../x",
            "msd",
            "10%",
            "1e3",
            "\ud800",
            "\0",
            "a\nb",
        ]
    ),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(scalars, inner, max_size=3),
    max_leaves=8,
)
pieces = st.sampled_from(
    [
        *"[]{}:,-#&*!|>'\"%@`?\n\t ",
        "---\n",
        "...\n",
        "<<: *a",
        "&a ",
        "*a",
        "!!python/none ",
        "1e400",
        ".nan",
        ".inf",
        "0x",
    ]
) | st.text(max_size=4)


def places(node: Any, path: tuple = ()) -> list[tuple]:
    """Every place of a nested value."""
    inner = (
        node.items()
        if isinstance(node, dict)
        else enumerate(node)
        if isinstance(node, list)
        else ()
    )
    return [path, *(place for key, value in inner for place in places(value, (*path, key)))]


@st.composite
def changed_text(draw: st.DrawFn) -> str:
    """A committed spec with characters taken out and pieces of YAML put in."""
    text = draw(st.sampled_from(SPECS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(pieces) + text[start + draw(st.integers(0, 6)) :]
    return text


@st.composite
def changed_values(draw: st.DrawFn) -> str:
    """A committed spec with other values, or other keys, at some places."""
    content = yaml.safe_load(draw(st.sampled_from(SPECS)))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.sampled_from(places(content)[1:]))
        node = content
        for key in place[:-1]:
            node = node[key]
        if isinstance(node, dict) and draw(st.booleans()):
            node[draw(scalars)] = node.pop(place[-1])
        else:
            node[place[-1]] = draw(values)
    return yaml.safe_dump(content, allow_unicode=draw(st.booleans()))


def is_a_line(message: str) -> bool:
    """Something to read on one line, that can be printed."""
    return bool(message.strip()) and len(message.splitlines()) == 1 and bool(message.encode())


def check_spec(path: Path, content: bytes, *overrides: str) -> None:
    path.write_bytes(content)
    spec, mistakes = None, [""]
    try:
        spec = load_spec(path, overrides)
    except SpecError as error:
        mistakes = error.mistakes
    if spec is None:
        assert mistakes
        assert all(is_a_line(mistake) for mistake in mistakes), mistakes
        return
    json.dumps(spec.model_dump(mode="json"), allow_nan=False)  # it can be hashed
    if spec.folds <= 10:
        assert run(
            [
                str(path),
                "--dry-run",
                *(part for override in overrides for part in ("--set", override)),
            ]
        ) in (
            0,
            2,
        )


GOOD = "name: x\nmodels: [ViT_Baseline]\ntasks: [Task02_Heart]\n"
BOMB = "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
NASTY = [
    "a: &a [*a]\n" + GOOD,
    "a: &a [x]\n" + BOMB + GOOD,
    "[" * 1000,
    "[" * 60 + "]" * 60,
    "x: " + "[" * 60 + "]" * 60 + "\n" + GOOD,
    GOOD + "training: {weight_decay: .inf}\n",
    GOOD + "training: {lr: .nan}\n",
    GOOD + "training: {epochs: 1e400}\n",
    GOOD + "seeds: [0x" + "f" * 9000 + "]\n",
    GOOD + "folds: 0x" + "f" * 9000 + "\n",
    GOOD + "folds: 1000000000\n",
    GOOD + "training: {epochs: 1.0e+300}\n",
    GOOD + "data: {image_size: [0x" + "f" * 900 + ", 8, 8], patch_size: [1, 8, 8]}\n",
    GOOD + "seeds: [9223372036854775807]\n",
    GOOD + 'data: {root: "a\\0b"}\n',
    GOOD + 'data: {root: "\\ud800"}\n',
    GOOD + "data: {root: " + "x" * 5000 + "}\n",
    GOOD + "storage: " + "x" * 5000 + "\n",
    GOOD + "storage: " + "x/" * 5000 + "\n",
    GOOD + "storage: ~nobody/x\n",
    GOOD + "data: {root: ~nobody}\n",
    GOOD + "splits: {group_file: ~nobody}\n",
    *(
        f"name: x\ntasks: [Task02_Heart]\nmodels: [{{label: MedVisionLlama, llm: {{source: "
        f"{source}}}}}]\n"
        for source in (
            "~nobody",
            "x" * 5000,
            '"a\\0b"',
            '"\\ud800"',
            "/",
            "..",
            "a/b",
            "smollm2-135m",
        )
    ),
    GOOD + "tasks: [" + "x" * 5000 + "]\n",
    GOOD + '"\\ud800": 1\n',
    GOOD + 'storage: "\\ud800"\n',
    GOOD + 'storage: "a\\0b"\n',
    GOOD + '"a\\nb": 1\n',
    GOOD + "? {a: b}\n: c\n",
    GOOD + "? [1, 2]\n: c\n",
    GOOD + "storage: 'nosuch://x'\n",
    GOOD + "<<: {name: y}\n",
    GOOD + "x: !!set {a, b}\n",
    GOOD + "x: !!binary aGVsbG8=\n",
    "name: x\nmodels: {label: [ViT_Baseline]}\ntasks: [Task02_Heart]\n",
    "name: x\nmodels: [{label: ViT_MLP, params: match }]\ntasks: [Task02_Heart]\n",
    "name: x\nmodels: [{label: ViT_MLP, params: match ViT_MLP}]\ntasks: [Task02_Heart]\n",
    "2020-13-45",
    "",
]


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_spec_files_that_were_hard(text: str, tmp_path: Path, isolated_cache: Path) -> None:
    check_spec(tmp_path / "spec.yaml", text.encode())


@settings(BOUNDED, max_examples=75)
@given(text=changed_text() | changed_values())
def test_spec_files(text: str, tmp_path: Path, isolated_cache: Path) -> None:
    check_spec(tmp_path / "spec.yaml", text.encode("utf-8", "surrogatepass"))


@BOUNDED
@given(
    override=st.text(max_size=30)
    | st.builds(
        "{}={}".format,
        st.sampled_from(
            [
                "name",
                "models.0",
                "models.0.label",
                "models.5.x",
                "training.epochs",
                "fractions.0",
                "a.b.c",
                "data.root.x",
                ".",
            ]
        ),
        pieces | st.builds(lambda value: yaml.safe_dump(value, default_flow_style=True), values),
    )
)
def test_overrides(override: str, tmp_path: Path, isolated_cache: Path) -> None:
    check_spec(tmp_path / "spec.yaml", GOOD.encode(), override)


@BOUNDED
@given(content=st.binary(max_size=60))
def test_files_that_are_no_spec(content: bytes, tmp_path: Path, isolated_cache: Path) -> None:
    check_spec(tmp_path / "spec.yaml", content)
