"""A study's numbers as a small folder that can be published: what its tables and curves are made
of, without images, masks, weights and saved activations; and a study out of such a folder again.

    plan.json study.json splits/ ...     the study's own files
    cases.parquet history.parquet        rows of all trials; `trial`: its place in published.json
    published.json                       the trials' commit markers, and checksums of the two tables
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from record import paths
from record.damage import read_committed
from record.reliance import knocked_of
from record.schema import Commit
from record.store import DamagedError, Store, StoreError
from record.stored import SCHEMA_VERSION, Stored
from record.study import StoredStudy
from record.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

AS_THEY_ARE = (
    paths.PLAN,
    paths.SEARCHES,
    paths.ANALYSIS,
    paths.TRAININGS,
    paths.EXTERNAL,
    paths.RELIANCE,
    paths.SPENT,
    paths.SPENT_AT,
)
KINDS = (paths.CASES, paths.HISTORY)
TRIAL = "trial"


class Published(Stored):
    """published.json: markers of finished trials, which name no files; sha256 of the tables by
    kind; and what trials chose on validation cases, by evaluation id.
    """

    remedy: ClassVar[str] = "take the folder again from where it was published"
    schema_version: int = Field(default=SCHEMA_VERSION, alias="schema")
    trials: list[Commit]
    sha256: dict[str, str]
    inference: dict[str, str] = {}


def publish(study: StoredStudy, into: Store) -> Published:
    """Write the study's finished trials, and nothing of where they ran: no folder of data or
    results, no log, no failed attempt. What was published there before is written anew.

    Raises:
        StoreError: nothing has finished, the study cannot be read, or the folder cannot be written.
    """
    commits = study.finished.commits
    _, knocked = knocked_of(study.store, study.plan, commits)
    markers = list({**commits, **knocked.commits}.values())
    if not markers:
        raise StoreError(
            f"{study.store.uri}: no trial has finished, so there is nothing to publish"
        )
    sha256 = {}
    for kind in KINDS:
        content = _joined([read_table(study.store, marker, kind) for marker in markers])
        into.write(paths.published_table(kind), content)
        sha256[kind] = hashlib.sha256(content).hexdigest()
    for name in AS_THEY_ARE:
        content_there = study.store.read(name)
        if content_there is not None:
            into.write(name, content_there)
        elif into.read(name) is not None:
            into.remove(name)
    for task, split in study.splits.items():
        into.save(paths.split(task), split)
    settings, manifest = study.settings, study.manifest
    update = {"spec": _anywhere(settings.spec), "data_root": ""}
    into.save(paths.STUDY, settings.model_copy(update=update))
    if manifest is not None:
        spec = {"spec": _anywhere(manifest.spec)}
        into.save(paths.MANIFEST, manifest.model_copy(update=spec))
    published = Published(
        schema=SCHEMA_VERSION,
        trials=[_bare(marker) for marker in markers],
        sha256=sha256,
        inference={
            marker.eval_id: read_committed(study.store, marker, paths.INFERENCE).decode()
            for marker in markers
            if paths.INFERENCE in marker.files
        },
    )
    into.save(paths.PUBLISHED, published)
    return published


def restore(folder: Store, into: Store) -> StoredStudy:
    """The study of a published folder, from which its report can be made.

    Raises:
        DamagedError: a file is missing or is not what was published.
        StoreError: nothing was published there, `into` is a study already, or cannot be written.
    """
    published = folder.load(paths.PUBLISHED, Published)
    if published is None:
        raise StoreError(f"{folder.uri}: holds no {paths.PUBLISHED}: nothing was published there")
    if into.read(paths.PLAN) is not None:
        raise StoreError(f"{into.uri}: is a study already; give the name of a new folder")
    parts = {kind: _parted(folder, kind, published) for kind in KINDS}
    for number, marker in enumerate(published.trials):
        contents = {kind: parts[kind][number] for kind in KINDS}
        if chosen := published.inference.get(marker.eval_id):
            contents[paths.INFERENCE] = chosen.encode()
        attempt = paths.attempt(marker.train_id, marker.token)
        files = {
            kind: paths.attempt_file(attempt, kind) for kind in contents if kind != paths.CASES
        }
        files[paths.CASES] = paths.cases(attempt, marker.eval_id)
        sha256 = dict(marker.sha256)
        for kind, content in contents.items():
            into.write(files[kind], content)
            sha256[kind] = hashlib.sha256(content).hexdigest()
        whole = marker.model_copy(update={"files": files, "sha256": sha256})
        into.save(paths.commit(marker.eval_id), whole)
    splits = [f"{paths.SPLITS}/{name}" for name in folder.names(paths.SPLITS)]
    named = (*splits, paths.STUDY, paths.MANIFEST, *AS_THEY_ARE[1:], paths.PLAN)
    for name in named:  # the plan last: with it, it is a study
        if (content_there := folder.read(name)) is not None:
            into.write(name, content_there)
    return StoredStudy.opened(into)


def _bare(marker: Commit) -> Commit:
    """A marker without files, machine and process."""
    attempt = marker.attempt.model_copy(update={"host": "", "pid": 0})
    return marker.model_copy(update={"files": {}, "attempt": attempt})


def _anywhere(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without the folders of the machine."""
    data = {"data": {**spec["data"], "root": None}} if "data" in spec else {}
    return {**spec, **data, "storage": ""}


def _joined(tables: list[pa.Table]) -> bytes:
    """The tables of all trials as one Parquet file; floats keep every bit."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbered = [
        table.add_column(0, TRIAL, pa.array([number] * table.num_rows, pa.int32()))
        for number, table in enumerate(tables)
    ]
    buffer = io.BytesIO()
    whole = pa.concat_tables(numbered, promote_options="permissive")
    pq.write_table(whole, buffer, compression="zstd", compression_level=19)
    return buffer.getvalue()


def _parted(folder: Store, kind: str, published: Published) -> list[bytes]:
    """The table of each trial as a Parquet file, without the columns that it has nothing in."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    place = paths.published_table(kind)
    content = folder.read(place)
    if content is None or hashlib.sha256(content).hexdigest() != published.sha256.get(kind):
        wrong = "is missing" if content is None else "is not what was published"
        raise DamagedError(f"{folder.path(place)}: {wrong}; {Published.remedy}")
    whole, parts = pq.ParquetFile(pa.BufferReader(content)).read(), []
    for number in range(len(published.trials)):
        part = whole.filter(pc.equal(whole[TRIAL], number)).drop_columns([TRIAL])
        empty = [name for name in part.column_names if part[name].null_count == part.num_rows]
        buffer = io.BytesIO()
        pq.write_table(part.drop_columns(empty), buffer)
        parts.append(buffer.getvalue())
    return parts
