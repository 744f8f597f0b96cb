"""Commits the scores of masks that another tool made, as a training's own are committed.

Ids are digests of contents, so that equal masks have one id and are committed once: the plan says
of which cells they are.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from orchestrator.comparing.scored import Rows
from record import paths
from record.damage import set_aside
from record.external import UNKNOWN_COST, empty_history
from record.masks import Packed, pack_masks
from record.schema import Attempt, Cell, Claim, Commit, Identity
from record.store import Store
from record.tables import table_bytes
from record.terminal import say


def new_token() -> str:
    """What distinguishes this process's commits from all others."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def whole_of(store: Store, eval_ids: Collection[str]) -> set[str]:
    """Which of these evaluations are finished and whole. What is left of damaged ones is set aside
    and said, so that they can be committed again.

    Raises:
        StoreError: the storage failed.
    """
    for line in set_aside(store, set(eval_ids)):
        say(f"damaged: {line}", file=sys.stderr)
    return store.committed().intersection(eval_ids)


def commit_scores(
    store: Store,
    token: str,
    cell: Cell,
    ids: tuple[str, str],
    identity: Identity,
    rows: Rows,
    cases: Sequence[str],
    masks: Mapping[str, Packed] | None = None,
) -> None:
    """Commit one cell's scores, and its masks where they are kept, whole or not at all.

    Args:
        ids: train_id and eval_id, the digests of `identity`.
        rows: of each case, one for each label group.
        cases: those that are committed, in the order of the table.
        masks: of each case.

    Raises:
        StoreError: the storage failed, or another attempt has claimed this training.
    """
    train_id, eval_id = ids
    folder = paths.attempt(train_id, token)
    files = {
        paths.CASES: paths.cases(folder, eval_id),
        paths.HISTORY: paths.attempt_file(folder, paths.HISTORY),
    }
    store.save(paths.claim(train_id), Claim(token=token, eval_id=eval_id))
    named = asdict(cell) | {"train_id": train_id, "eval_id": eval_id}
    table = [{**named, "case": case, **row} for case in cases for row in rows[case]]
    store.write(files[paths.CASES], table_bytes(table))
    store.write(files[paths.HISTORY], empty_history())
    if masks is not None:
        files[paths.MASKS] = paths.attempt_file(folder, paths.MASKS)
        store.write(files[paths.MASKS], pack_masks({case: masks[case] for case in cases}))
    store.commit(
        Commit(
            eval_id=eval_id,
            train_id=train_id,
            token=token,
            cell=cell,
            identity=identity,
            files=files,
            cost=UNKNOWN_COST,
            attempt=Attempt(world=1, threads=1, host=socket.gethostname(), pid=os.getpid()),
            finished=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        )
    )
