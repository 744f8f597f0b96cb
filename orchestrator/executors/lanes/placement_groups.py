"""Placement groups that are no longer used.

Train workers live in a placement group, which Ray gives back when the actor that asked
for it and its job are dead. An actor that dies while it asks is missed (Ray 2.60, seen in
tests/chaos): the CPUs and GPUs stay taken for as long as the cluster lives, and after a few such
deaths no trial would start any more. So the driver looks for such groups itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import ray

# One without actors at two looks is given back: workers are asked for as soon as there is one.
LOOK_SECONDS = 60.0
MOST = 10_000  # entries that Ray's state API gives at most
TIMEOUT_SECONDS = 10


class OrphanedGroups:
    """Finds them; call `sweep` every `LOOK_SECONDS`."""

    def __init__(self) -> None:
        self.seen: frozenset[str] = frozenset()

    def sweep(self, *, last: bool = False) -> list[str]:
        """Give back the placement groups that were unused at the last look, too; their ids.

        Args:
            last: the run's lanes are gone, so that of its own groups every unused one is left over.

        Raises:
            Exception: Ray's state API (its dashboard) does not answer; nothing is given back then.
        """
        from ray.util.placement_group import PlacementGroup, remove_placement_group
        from ray.util.state import list_actors, list_placement_groups

        context = ray.get_runtime_context()
        query: dict[str, Any] = {
            "address": context.gcs_address,
            "limit": MOST,
            "timeout": TIMEOUT_SECONDS,
            "detail": True,
        }
        groups = list_placement_groups(**query, filters=[("state", "=", "CREATED")])
        actors = list_actors(**query, filters=[("state", "!=", "DEAD")])
        if len(actors) >= MOST:  # those that are not listed might use any of them
            return []
        own, dead = (
            context.get_job_id(),
            [job["JobID"] for job in ray._private.state.jobs() if job["IsDead"]],
        )
        unused = unused_groups(
            groups, {actor["placement_group_id"] for actor in actors}, [own, *dead]
        )
        gone = [name for name, job in unused.items() if name in self.seen or (last and job == own)]
        for name in gone:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID.from_hex(name)))
        self.seen = frozenset(unused)
        return gone


def unused_groups(
    groups: Iterable[Any], used: Collection[str | None], jobs: Collection[str]
) -> dict[str, str]:
    """Groups of these jobs that hold CPUs or GPUs and no actor, with their jobs; detached ones are
    meant to stay.

    Args:
        groups: as Ray's state API describes them in detail.
        used: ids of groups with a living or starting actor.
    """
    return {
        group["placement_group_id"]: group["creator_job_id"]
        for group in groups
        if group["creator_job_id"] in jobs
        and group["placement_group_id"] not in used
        and not group["is_detached"]
        and any(
            bundle["unit_resources"].get(kind)
            for bundle in group["bundles"]
            for kind in ("CPU", "GPU")
        )
    }
