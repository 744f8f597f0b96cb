"""What crosses between the packages has a name and a type, and is spelled in `record` alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from record import events, paths

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("orchestrator", "medvision", "reports", "tools")
STORE_CALLS = {
    *("read", "read_json", "write", "write_json", "load", "save", "load_folder"),
    *("create", "remove", "names"),
}
FILES = {
    value
    for name, value in vars(paths).items()
    if name.isupper() and not name.startswith("_") and "." in str(value)
} | {"history.parquet", "masks.npz", "arrays.npz"}
FOLDERS = tuple(
    f"{folder}/"
    for folder in (
        *(paths.COMMITS, paths.CLAIMS, paths.CHECKPOINTS, paths.TRIALS, paths.FAILURES),
        *(paths.SPLITS, paths.SEARCH, paths.REPORT, paths.LOGS, paths.TRACKING),
    )
)


def spelled(tree: ast.AST) -> Iterator[str]:
    """What a module spells that belongs to the record, with its line."""
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.Constant(value=str(text)) if id(node) not in documentation:
                if text in FILES or text.startswith(FOLDERS):
                    yield f"{line}: the path {text!r}"
            case ast.Subscript(value=ast.Name(id="plan" | "marker" | "event" | "failure")):
                yield f"{line}: {ast.unparse(node)}"
            case ast.Call(func=ast.Attribute(value=ast.Name(id="plan" | "marker"), attr="get")):
                yield f"{line}: {ast.unparse(node)}"
            case ast.Dict(keys=keys) if any(
                isinstance(key, ast.Constant) and key.value == "event" for key in keys
            ):
                yield f"{line}: an event as a bare dict"
            case ast.Call(func=ast.Attribute(value=owner, attr=attr), args=[first, *_]) if (
                attr in STORE_CALLS and ast.unparse(owner).endswith("store")
            ):
                if isinstance(first, ast.JoinedStr | ast.Constant):
                    yield f"{line}: {ast.unparse(node.func)}({ast.unparse(first)})"


@pytest.mark.parametrize("package", PRODUCT)
def test_no_product_code_spells_a_path_a_plans_key_or_an_event(package: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{problem}"
        for path in sorted((ROOT / package).rglob("*.py"))
        for problem in spelled(ast.parse(path.read_text()))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code",
    [
        'store.read_json("needs.json")',
        'self.store.names("commits")',
        'store.remove(f"failures/{eval_id}")',
        'folder / "events.jsonl"',
        'x = "trials/a"',
        'plan["trials"]',
        'plan.get("searches")',
        'marker["cost"]',
        'emit({"event": "epoch"})',
    ],
)
def test_the_look_finds_what_it_looks_for(code: str) -> None:
    assert list(spelled(ast.parse(code)))


def test_a_folder_of_the_record_is_where_its_paths_say() -> None:
    """The names on disk since the first version: who changes one loses every older study."""
    assert paths.commit("e") == "commits/e.json"
    assert paths.claim("t") == "claims/t.json"
    assert paths.checkpoint("t", "1x1") == "checkpoints/t/1x1.pt"
    assert paths.failure("e", "token") == "failures/e/token.json"
    assert paths.split("Task01") == "splits/Task01.json"
    assert paths.search_trial("s", 3) == "search/s/3.json"
    folder = paths.attempt("t", "token")
    assert folder == "trials/t/token"
    assert paths.is_attempt(folder)
    assert not paths.is_attempt("trials/t")
    assert paths.cases(folder, "0123456789abcdef-more") == (
        "trials/t/token/cases-0123456789abcdef.parquet"
    )
    assert paths.attempt_file(folder, paths.HISTORY) == "trials/t/token/history.parquet"
    assert paths.stem("e.json") == "e"


def test_every_event_survives_its_line_in_a_journal() -> None:
    """Also the oldest lines, and those of a newer version that knows one field more."""
    about = ("a cell", "e")
    every: list[events.Event] = [
        events.DriverStarted(time=1.0),
        events.Started(*about, 2, lane=7, time=1.0),
        events.Epoch(*about, 3, {"train_loss": 0.5, "system/cpu_percent": 99.0}, lane=7),
        events.Epoch(*about, 3, {"train_loss": 0.5}, 10),
        events.Finished(*about, 8.0, 0.25),
        events.Finished(*about, 8.0, 0.25, True),
        events.Failed(*about, "why", "lost"),
        events.Quarantined(*about, "why"),
        events.Interrupted(None, "e"),
        events.LaneReady("a cell", "e", 17, lane=7),
        events.WaitsForMachines("no machine"),
    ]
    for event in every:
        assert events.from_json(event.to_json()) == event
    assert events.Started(*about, 2, lane=7).to_json() == {
        "lane": 7,
        "event": "started",
        "cell": "a cell",
        "eval_id": "e",
        "attempt": 2,
    }
    newer = {"event": "failed", "eval_id": "e", "reason": "why", "weather": "rain"}
    assert events.from_json(newer) == events.Failed(None, "e", "why")
    with pytest.raises(ValueError, match="event 'started': "):
        events.from_json({"event": "started", "eval_id": "e"})
    with pytest.raises(ValueError, match="unknown event 'born'; known: driver-started"):
        events.from_json({"event": "born"})
