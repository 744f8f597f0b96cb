"""Whatever happens to a file of a study, its table is the right one or the file is named: every one
is flipped, cut, emptied, swapped with another and retyped.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from orchestrator import status
from record import paths
from record.store import Store, StoreError
from record.study import StoredStudy
from reports.sections.significance import significance_table


@dataclass(frozen=True)
class Found:
    """What a reader is told: the table, and lines on what is damaged; or a line alone."""

    table: str | None
    lines: tuple[str, ...]


def look(store: Store) -> Found:
    """Everything that reports, status and tracking read, without drawing."""
    try:
        study = StoredStudy.opened(store)
        status.describe(study, 0.0)
        rows = study.rows(paths.CASES)
        study.rows(paths.HISTORY)
        _ = (study.settings, study.manifest, study.splits, study.frozen, study.planned)
        _ = (study.searched, study.failures)
        table = significance_table(rows, study.plan, study.finished.commits)
    except StoreError as error:
        return Found(None, (str(error),))
    return Found(table.to_csv(), tuple(study.finished.damaged.values()))


def flipped(content: bytes, rng: random.Random, _: bytes) -> bytes:
    place, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    return content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :]


def cut(content: bytes, rng: random.Random, _: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def emptied(_: bytes, __: random.Random, ___: bytes) -> bytes:
    return b""


def swapped(_: bytes, __: random.Random, other: bytes) -> bytes:
    return other


def retyped(content: bytes, rng: random.Random, _: bytes) -> bytes:
    """One value of a JSON file or one column of a table is of another type, or other rows."""
    try:
        values = json.loads(content)
    except ValueError:
        return _retyped_table(content, rng)
    place = values
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = rng.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or rng.random() < 0.2:
            place[key] = rng.choice([None, True, 7, -1.5, "x", [], {}, [1], {"a": 1}, 10**400])
            break
        place = place[key]
    return json.dumps(values).encode()


def _retyped_table(content: bytes, rng: random.Random) -> bytes:
    try:
        table = pd.read_parquet(io.BytesIO(content))
    except Exception:  # no table: other bytes of the same length
        return rng.randbytes(len(content))
    column, buffer = rng.choice(list(table.columns)), io.BytesIO()
    change: Callable[[pd.DataFrame], pd.DataFrame] = rng.choice(
        [
            lambda t: t.assign(**{column: t[column].astype(str)}),
            lambda t: t.assign(**{column: float("inf")}),
            lambda t: pd.concat([t, t]),
            lambda t: t.drop(columns=column),
            lambda t: t.iloc[:0],
        ]
    )
    change(table).to_parquet(buffer)
    return buffer.getvalue()


CHANGES = (flipped, cut, emptied, swapped, retyped)


def files_of(folder: Path) -> list[str]:
    """All but what is made for people and never read again."""
    made = (paths.REPORT, paths.LOGS)
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return [file for file in found if not file.startswith(made)]


def attacked(folder: Path, each: int, seed: int) -> Iterator[tuple[str, str, Found]]:
    """Every file changed `each` times in each way, and what is found; then it is put back."""
    rng, files, store = random.Random(seed), files_of(folder), Store(str(folder))
    for file in files:
        before = (folder / file).read_bytes()
        kin = [one for one in files if one != file and Path(one).suffix == Path(file).suffix]
        for change in CHANGES:
            for _ in range(1 if change is emptied else each):
                other = (folder / rng.choice(kin)).read_bytes() if kin else b"another"
                after = change(before, rng, other)
                if after == before:
                    continue
                (folder / file).write_bytes(after)
                yield file, change.__name__, look(store)
        (folder / file).write_bytes(before)


def without(folder: Path) -> dict[str, str | None]:
    """The right tables: the whole one, and without each of the finished trials."""
    store, right = Store(str(folder)), {"": look(Store(str(folder))).table}
    for name in store.committed():
        place = Path(store.path(paths.commit(name)))
        kept = place.read_bytes()
        place.unlink()
        right[name] = look(store).table
        place.write_bytes(kept)
    return right


def wrong_outcomes(folder: Path, each: int, seed: int) -> tuple[int, list[str]]:
    right, wrong, count = without(folder), [], 0
    assert right[""]
    assert len(set(right.values())) > 1
    for file, change, found in attacked(folder, each, seed):
        count += 1
        named = any(str(folder / file) in line and "\n" not in line for line in found.lines)
        if found.table is None or found.lines:
            fine = named and (found.table is None or found.table in right.values())
        else:
            fine = found.table == right[""]
        if not fine:
            wrong.append(f"{file} {change}: {found}")
    return count, wrong


def test_no_damage_gives_another_table_or_goes_unnamed(whole: tuple[Path, list[str]]) -> None:
    count, wrong = wrong_outcomes(whole[0], each=1, seed=0)
    assert count > 100
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.slow
def test_two_thousand_damages_give_no_other_table_and_are_named(
    whole: tuple[Path, list[str]],
) -> None:
    count, wrong = wrong_outcomes(whole[0], each=18, seed=1)
    assert count > 2_000
    assert not wrong, "\n".join(wrong[:20])
