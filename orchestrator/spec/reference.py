"""`python -m orchestrator.spec.reference` prints docs/spec.md: every key of a spec, out of the JSON
Schema that validates it.

So the page always says what the program does. Units, which JSON Schema has no word
for, are here.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from medvision.data.tasks import MSD_TASKS
from medvision.metrics.definitions import METRICS
from medvision.models.registry import PRESETS
from orchestrator.spec.study import Spec
from record.command import begin_command
from record.terminal import say

Node = Mapping[str, Any]

UNITS = {
    "data.ct_window": "HU",
    "data.image_size": "voxels",
    "data.patch_size": "voxels",
    "data.spacing": "mm",
    "evaluation.tolerances": "mm",
    "resources.gpus_per_worker": "GPUs",
    "resources.hang_seconds": "s",
    "resources.shapes[].gpus_per_worker": "GPUs",
    "search.epochs": "epochs",
    "search.steps": "steps",
    "tasks[].ct_window": "HU",
    "tasks[].tolerances": "mm",
    "training.augmentation.rotation_degrees": "degrees",
    "training.batch_size": "cases",
    "training.checkpoint_epochs": "epochs",
    "training.epochs": "epochs",
    "training.steps": "steps",
}
_WITHOUT_TRUTH = {
    "by-spec": "as `evaluation.both_empty` says",
    "undefined": "no value",
    "defined": "count always",
}
TYPES = {"null": "`null`", "boolean": "`true`/`false`", "string": "text", "object": "mapping"}
BOUNDS = {
    "minimum": "≥",
    "exclusiveMinimum": ">",
    "gt": ">",
    "maximum": "≤",
    "exclusiveMaximum": "<",
    "le": "≤",
}
INTRODUCTION = """\
# Every key of a spec

Made from the code by `make schema`: do not edit. How to choose the values: [writing a
study](writing-a-study.md).

A spec is a YAML file; an unknown key is an error. `KEY[]` is an entry of the list `KEY`, `NAME` a
name that you choose. On the command line `--set` takes the same dotted keys, with the entry's
number instead of `[]`: `--set models.1.depth=4`. **Required** keys have no default, `null`
means not set, and `below` that the keys under it have their own.
"""
MODELS = """\
A list of models. Each is a label, or a mapping with a label and settings of its family. Case, `-`
and `_` of a label are forgiven.
"""


def reference() -> str:
    """The whole page, as Markdown."""
    schema = Spec.model_json_schema()
    parts = [INTRODUCTION, _contents()]
    for key, node in schema["properties"].items():
        parts += [
            f"## {key}\n",
            *(_models(schema, node) if key == "models" else _section(schema, key, node)),
        ]
    return "\n".join([*parts, _metrics(), _tolerances()])


def _contents() -> str:
    links = [f"[{key}](#{key})" for key in Spec.model_fields]
    links += [
        "[names of metrics](#names-of-metrics)",
        "[tolerances of the MSD tasks](#tolerances-of-the-msd-tasks)",
    ]
    return (
        textwrap.fill(f"{', '.join(links)}.", 128, break_on_hyphens=False, break_long_words=False)
        + "\n"
    )


def _section(schema: Node, key: str, node: Node) -> Iterator[str]:
    yield from (
        f"{_line(inner['description'])}\n"
        for _, inner in _mappings(schema, node)
        if "description" in inner
    )
    yield _table(
        [row for row in _rows(schema, schema, [key]) if row[:2] != [f"`{key}`", "mapping"]]
    )


def _models(schema: Node, node: Node) -> Iterator[str]:
    """Every family of labels: an entry for each label with its own defaults, then the settings that
    they share.
    """
    yield MODELS
    for _, family in _mappings(schema, node):
        labels = _values(family["properties"]["label"])
        yield f"### {', '.join(labels)}\n"
        yield f"{_line(family['description'])}\n"
        yield "".join(f"- `{label}`: {_preset(label)}\n" for label in labels)
        yield _table(list(_rows(schema, family, list(family["properties"]), "models[].")))


def _preset(label: str) -> str:
    own = ", ".join(f"`{key}: {_plain(value)}`" for key, value in PRESETS.get(label, {}).items())
    return f"{own} by default" if own else "the defaults of the table"


def _rows(schema: Node, parent: Node, keys: Sequence[str], prefix: str = "") -> Iterator[list[str]]:
    """A row for each key of a mapping, and for all keys below it."""
    for key in keys:
        node, path = parent["properties"][key], f"{prefix}{key}"
        default = "**required**" if key in parent.get("required", ()) else _default(node)
        yield [
            f"`{path}`",
            _type(schema, node),
            default,
            UNITS.get(path, ""),
            _line(node.get("description", "")),
        ]
        for suffix, inner in _mappings(schema, node):
            yield from _rows(schema, inner, list(inner["properties"]), f"{path}{suffix}.")


def _mappings(schema: Node, node: Node) -> list[tuple[str, Node]]:
    """The mappings with fixed keys that a key may hold, each with what lies between the key and
    theirs.

    Of one mapping and a list of the same (`comparisons`), the list is given.
    """
    return list({id(inner): (suffix, inner) for suffix, inner in _reached(schema, node)}.values())


def _reached(schema: Node, node: Node) -> Iterator[tuple[str, Node]]:
    if "$ref" in node:
        yield "", schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    for kind, suffix in (("items", "[]"), ("additionalProperties", ".NAME")):
        if isinstance(node.get(kind), Mapping):
            yield from ((f"{suffix}{more}", inner) for more, inner in _reached(schema, node[kind]))
    for alternative in (*node.get("anyOf", ()), *node.get("oneOf", ())):
        yield from _reached(schema, alternative)


def _values(node: Node) -> list[str]:
    return [str(value) for value in node.get("enum", [node.get("const")])]


def _type(schema: Node, node: Node) -> str:
    """Type, allowed values and bounds in words."""
    if alternatives := node.get("anyOf", node.get("oneOf")):
        words = " or ".join(
            dict.fromkeys(_type(schema, alternative) for alternative in alternatives)
        )
    elif "$ref" in node:
        words = "mapping"
    elif "enum" in node or "const" in node:
        words = ", ".join(f"`{value}`" for value in _values(node))
    elif node["type"] == "array":
        words = _list(schema, node)
    elif isinstance(inner := node.get("additionalProperties"), Mapping):
        words = f"mapping of names to {_bracketed(_type(schema, inner))}"
    else:
        words = TYPES.get(node["type"], str(node["type"]))
    if "pattern" in node:
        words += f" like `{node['pattern']}`"
    bounds = " and ".join(
        f"{sign} {node[bound]}" for bound, sign in BOUNDS.items() if bound in node
    )
    words += f"{', ' if alternatives else ' '}{bounds}" if bounds else ""
    return f"{words}, a multiple of {node['multipleOf']}" if "multipleOf" in node else words


def _list(schema: Node, node: Node) -> str:
    least, most = node.get("minItems", 0), node.get("maxItems")
    count = f" of {least}" if least == most else f" of {least} or more" if least > 1 else ""
    entry = node["items"] if "items" in node else node["prefixItems"][0]
    return f"list{count}: {_bracketed(_type(schema, entry))}"


def _bracketed(words: str) -> str:
    return f"({words})" if any(word in words for word in (", ", " or ", " and ")) else words


def _default(node: Node) -> str:
    value = node.get("default")
    return "below" if isinstance(value, Mapping) and "$ref" in str(node) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A value as YAML writes it in one line."""
    return (
        yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False)
        .removesuffix("...\n")
        .strip()
    )


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of key, type, default, unit and meaning; a column that would be empty is left out."""
    header = ["Key", "Type or values", "Default", "Unit", "Meaning"]
    used = [column for column in range(len(header)) if any(row[column] for row in rows)]
    lines = [
        header,
        ["---"] * len(header),
        *([cell.replace("|", "\\|") for cell in row] for row in rows),
    ]
    return "".join(f"| {' | '.join(line[column] for column in used)} |\n" for line in lines)


def _metrics() -> str:
    rows = [
        f"| `{name}` | {info.title} | {info.unit or 'none'} | "
        f"{'higher' if info.higher_is_better else 'lower'} | {info.perfect:g} | "
        f"{_WITHOUT_TRUTH[info.empty]} |\n"
        for name, info in METRICS.items()
    ]
    head = (
        "| Name | In tables | Unit | Which is better | Perfect | Cases without structure |\n"
        "| --- | --- | --- | --- | ---: | --- |\n"
    )
    return f"## Names of metrics\n\n{head}{''.join(rows)}"


def _tolerances() -> str:
    rows = [
        f"\n| {name} | {task.modality} | {task.cases} | {task.tolerance_mm:g} |"
        for name, task in MSD_TASKS.items()
    ]
    head = "| Task | Modality | Labelled cases | NSD tolerance [mm] |\n| --- | --- | ---: | ---: |"
    return f"## Tolerances of the MSD tasks\n\n{head}{''.join(rows)}"


def main() -> None:
    """Command line: no arguments."""
    begin_command()
    argparse.ArgumentParser(
        prog="python -m orchestrator.spec.reference", description="Print docs/spec.md."
    ).parse_args()
    say(reference())


if __name__ == "__main__":
    main()
