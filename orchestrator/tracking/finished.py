"""What MLflow gets of a finished trial, out of its files in the store."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from orchestrator.tracking.server import DICE, Server
from record import paths
from record.schema import CELL, Commit, PlannedTrial
from record.store import Store
from record.tables import read_table

_SPENT = ("seconds", "peak_memory_bytes", "energy_joules", "chosen_epoch")
_SIZES = ("parameters", "trained_parameters")


def cell_of(trial: PlannedTrial) -> dict[str, Any]:
    """Its place in the grid."""
    return {name: getattr(trial, name) for name in CELL}


def log_finished(
    server: Server,
    store: Store,
    trial: PlannedTrial,
    marker: Commit,
    metrics: Collection[str],
    *,
    log_model: bool = False,
) -> None:
    """Give a trial's run all that the store holds of it, and end it.

    Args:
        metrics: the study's, of which means over the trial's test cases are logged.
        log_model: also log its weights as an MLflow model.

    Raises:
        DamagedError: a file of it is not what was committed.
    """
    client = server.client
    end = int(1000 * marker.finished_at.timestamp())
    lasted, cost = int(1000 * marker.cost.seconds), marker.cost.to_json()
    child = server.child(trial, end - lasted)
    history = read_table(store, marker, paths.HISTORY).to_pylist()
    last = max((row["epoch"] for row in history), default=1)
    for row in history:
        then = end - lasted + lasted * row["epoch"] // last
        server.add(child, {f"{row['split']}/{row['metric']}": row["value"]}, row["epoch"], then)
    cases = read_table(store, marker, paths.CASES).to_pandas()
    means = {
        f"test/{name}": cases[name].mean()
        for name in cases.select_dtypes("number")
        if name.partition("@")[0] in metrics
    }
    if "test/dice" in means:
        means[DICE] = means["test/dice"]
    server.add(child, means, 0, end)
    server.add(child, {f"cost/{name}": cost[name] for name in _SPENT if name in cost}, 0, end)
    server.flush()
    # The file and the tag of MLflow's `log_table`, which itself would append to what an
    # uncertain delivery left.
    client.log_text(child.run_id, cases.to_json(orient="split", index=False), "cases.json")
    client.log_dict(child.run_id, marker.to_json(), "commit.json")
    if log_model and paths.WEIGHTS in marker.files:
        from orchestrator.tracking import model

        model.log_model(client, child.run_id, store, marker)
    tags = {"mlflow.loggedArtifacts": '[{"path": "cases.json", "type": "table"}]'}
    tags |= {f"medvision.attempt.{name}": value for name, value in marker.attempt.to_json().items()}
    sizes = {name: cost[name] for name in _SIZES if name in cost}
    server.describe(child, {**cell_of(trial), **sizes, **_settings(marker)}, tags)
    server.set_status(child.run_id, "FINISHED", end)
    server.ended(str(trial.eval_id))


def _settings(marker: Commit) -> dict[str, Any]:
    """What decides a trial's numbers, without ids and digests, which tags and commit.json have.

    MLflow's page compares by the first three parameters that differ, in the order of the alphabet:
    scoring is `test`, so that they are fold, fraction and model.
    """
    parts = {"train": marker.identity.train, "test": marker.identity.eval}
    return {part: _without_digests(values) for part, values in parts.items()}


def _without_digests(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _without_digests(value) if isinstance(value, Mapping) else value
        for name, value in values.items()
        if name != "sha256" and not name.endswith("_id")
    }
