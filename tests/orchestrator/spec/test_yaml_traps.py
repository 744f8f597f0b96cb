"""What YAML reads as something else than people mean is refused, with the value that is meant."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from medvision.training.settings import Training
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError, load_spec

GOOD = "name: x\nmodels: [ViT_Baseline, ViT_MLP]\ntasks: [Task02_Heart]\n"


def load(folder: Path, more: str, *overrides: str) -> Spec:
    path = folder / "spec.yaml"
    path.write_text(f"{GOOD}{more}\n")
    return load_spec(path, overrides)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("seeds: [1, 010]", "seeds.1: `010` is 8 in YAML (octal): write 10, or 8 if that is meant"),
        ("seeds: [08]", "seeds.0: `08` has a leading zero"),
        ("seeds: [01]", "write 1, or '01' in quotes if it is text"),
        ("data: {label_groups: {a: [-010]}}", "`-010` is -8 in YAML (octal): write -10"),
        ("data: {label_groups: {010: [1]}}", "data.label_groups.010: `010` is 8 in YAML"),
        ("seeds: [1:30]", "seeds.0: `1:30` is 90 in YAML (base 60): write 90 if that is meant"),
        ("training: {lr: 1:30.5}", "training.lr: `1:30.5` is 90.5 in YAML (base 60)"),
        ("training: {epochs: yes}", "training.epochs: `yes` is true in YAML, and a number is"),
        ("training: {batch_size: on}", "training.batch_size: `on` is true in YAML, and a number"),
        ("seeds: [Off]", "seeds.0: `Off` is false in YAML, and a number is expected"),
        ("fractions: [true]", "fractions.0: `true` is a truth value, and a number is expected"),
        ("data: {label_groups: {a: [true]}}", "data.label_groups.a.0: `true` is a truth value"),
        ("data: {label_groups: {on: [1]}}", "data.label_groups.on: `on` is true in YAML: put it"),
        ("storage: no", "storage: `no` is false in YAML: put it in quotes, 'no', if it is text"),
        ("storage: 2026-01-31", "storage: `2026-01-31` is a date in YAML: put it in quotes"),
        ("storage: 1.10", "storage: expected text, got 1.1: put it in quotes"),
        (
            "comparisons: {baseline: ViT_Baseline, candidates: [no]}",
            "comparisons.candidates.0: `no` is false in YAML: put it in quotes",
        ),
    ],
)
def test_a_misread_value_is_refused_with_what_it_was_read_as(
    tmp_path: Path, line: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, line)
    (mistake,) = caught.value.mistakes
    assert mistake.startswith(f"{tmp_path}/spec.yaml:4: ")
    assert message in mistake


def test_an_override_is_read_as_the_file_is_and_hides_what_the_file_says(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load(tmp_path, "", "seeds=[010]", "training.epochs=yes")
    assert [line.split(" in YAML")[0] for line in caught.value.mistakes] == [
        "--set: seeds.0: `010` is 8",
        "--set: training.epochs: `yes` is true",
    ]
    assert load(tmp_path, "seeds: [010]", "seeds=[10]").seeds == [10]


def test_what_is_meant_as_it_is_read_stays(tmp_path: Path) -> None:
    spec = load(tmp_path, 'seeds: [0, 10, 0x10, 1_000]\nstorage: "010"')
    assert (spec.seeds, spec.storage) == ([0, 10, 16, 1000], "010")
    spec = load(tmp_path, "data: {protocol: corrected, crop: yes}\ntracking: {enabled: off}")
    assert (spec.data.crop, spec.tracking.enabled) == (True, False)
    assert load(tmp_path, "training: {lr: 1e-3}").training.lr == 0.001


@given(st.from_regex(r"[-+]?[0-9_:.xob]{1,8}|[Yy]es|NO|on|Off|true|y|~", fullmatch=True))
@settings(deadline=None, max_examples=150)
def test_a_seed_is_refused_or_the_number_that_stands_there(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    try:
        spec = load(tmp_path_factory.mktemp("seed"), f"seeds: [{text}]")
    except SpecError:
        return
    plain = text.replace("_", "")
    assert spec.seeds == [int(float(plain)) if "." in plain else int(plain, 0)]


def test_a_truth_value_is_no_number_in_python_either() -> None:
    for values in ({"epochs": True}, {"lr": False}, {"augmentation": {"flip": [True, 0, 0]}}):
        with pytest.raises(ValueError, match="a truth value is no number"):
            Training.model_validate(values)
    assert Training(compile=True).compile
    space = {"training.lr": {"choices": [True, 0.5]}}
    values = {"name": "x", "models": ["ViT_Baseline"], "tasks": ["T"], "search": {"space": space}}
    with pytest.raises(ValueError, match=r"training.lr: .*a truth value is no number"):
        Spec.model_validate(values)


WHOLE: dict[str, Any] = {
    "name": "x",
    "models": [
        {"label": "MedVisionLlama", "llm": {"source": "a"}, "lora": {}},
        {"label": "ViT_Baseline", "name": "b"},
    ],
    "tasks": [{"name": "Task02_Heart"}],
    "comparisons": [{"baseline": "b", "candidates": ["MedVisionLlama"]}],
}
# What is written, and what may come of it: anything else is a misread value.
MEANT: dict[str, tuple[Any, ...]] = {
    "010": (),
    "-010": (),
    "1:30": (),
    "12:30:45": (),
    "2024-01-01": (),
    "2024-01-01 10:00:00": (),
    ".inf": (),
    ".nan": (),
    "yes": (True,),
    "No": (False,),
    "on": (True,),
    "OFF": (False,),
    "0o10": (8, "0o10"),
    "1_000": (1000,),
    "1e3": (1000, "1e3"),
    "1.0e+1": (10,),
    "0x1F": (31,),
    "!!int '5'": (5,),
    "!!str 5": ("5", 5),
}


def leaves(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*place, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from leaves(inner, (*place, index))
    else:
        yield place


def at(value: Any, place: tuple[str | int, ...]) -> Any:
    for part in place:
        value = value[part]
    return value


DUMPED = Spec.model_validate(WHOLE).model_dump(mode="json")
LEAVES = [place for place in leaves(DUMPED) if place[-1] != "label"]


@given(st.sampled_from(LEAVES), st.sampled_from(list(MEANT)))
@settings(deadline=None, max_examples=300)
def test_in_every_field_a_value_is_refused_or_what_is_meant(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str | int, ...], text: str
) -> None:
    values = copy.deepcopy(DUMPED)
    at(values, place[:-1])[place[-1]] = "@marked@"
    path = tmp_path_factory.mktemp("spec") / "spec.yaml"
    path.write_text(re.sub(r"'?@marked@'?", text, yaml.safe_dump(values)))
    try:
        spec = load_spec(path)
    except SpecError:
        return
    found = at(spec.model_dump(mode="json"), place)
    assert any(found == meant and isinstance(found, bool) == isinstance(meant, bool)
               for meant in MEANT[text])  # fmt: skip
