"""The result store: what a study's files mean together. Where each lies is `record.paths`, what it
holds `record.schema`, how it is written `record.files`.

An attempt's files lie in a folder named by its token and count only once a commit names them, so a
half-written or orphaned attempt is never read. Object stores need no rename for this: writing the
marker is one atomic put.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from record import paths
from record.files import Files, typed
from record.filesystems import DamagedError, StoreError
from record.schema import Claim, Commit, Failure, StudyPlan
from record.search import SearchOutcome
from record.stored import SCHEMA_VERSION

__all__ = ["DamagedError", "FencedError", "Store", "StoreError"]


class FencedError(StoreError):
    """The attempt's token is not the claimed one: a newer driver has taken the trial over, and
    nothing was committed.
    """


class Store(Files):
    """The files of one study.

    Args:
        uri: a local folder or any fsspec URI.
    """

    def committed(self) -> set[str]:
        """Ids of the finished evaluations: a listing, nothing is read."""
        return {paths.stem(name) for name in self.names(paths.COMMITS)}

    def commits(self) -> dict[str, Commit]:
        """Commit markers by evaluation id."""
        return self.load_folder(paths.COMMITS, Commit)

    def commit(self, marker: Commit) -> None:
        """Make an attempt's result count; the first commit of an evaluation stays.

        Args:
            marker: all but `sha256`, which is of what its files hold now.

        Raises:
            FencedError: another attempt holds the claim.
            StoreError: a named file is missing.
        """
        self.require_claim(marker.train_id, marker.token)
        checksums = {}
        for kind, relative in marker.files.items():
            content = self.read(relative)
            if content is None:
                raise StoreError(f"{self.path(relative)}: is named by a commit and is missing")
            checksums[kind] = hashlib.sha256(content).hexdigest()
        name = paths.commit(marker.eval_id)
        if self.read(name) is None:
            added = {"schema_version": SCHEMA_VERSION, "sha256": checksums}
            self.save(name, marker.model_copy(update=added))

    def require_claim(self, train_id: str, token: str) -> None:
        """Refuse an attempt that was superseded.

        Raises:
            FencedError: another attempt holds the claim.
        """
        claim = self.load(paths.claim(train_id), Claim)
        held = claim.token if claim else None
        if held != token:
            raise FencedError(
                f"attempt {token} of trial {train_id[:12]} may not commit: the claim is now held "
                f"by {held}"
            )

    def failures(self) -> dict[str, list[Failure]]:
        """Failed attempts by evaluation id, in the order of time."""
        found: dict[str, list[Failure]] = {}
        places = [place for place in self.below(paths.FAILURES) if paths.is_failure(place)]
        for place, content in zip(places, self.read_many(places), strict=True):
            if failure := self.parsed(place, content, Failure):
                found.setdefault(place.split("/")[1], []).append(failure)
        return {name: _by_time(failures) for name, failures in found.items()}

    def failures_of(self, eval_id: str) -> list[Failure]:
        """Failed attempts at one trial, in the order of time."""
        return _by_time(self.load_folder(paths.failures(eval_id), Failure).values())

    def outcomes(self) -> dict[str, SearchOutcome]:
        """What the searches that have ended found, by the search's id."""
        place = self.path(paths.SEARCHES)
        found = self.read_json(paths.SEARCHES, SearchOutcome.remedy) or {}
        return {name: typed(value, SearchOutcome, place) for name, value in found.items()}

    def save_outcomes(self, outcomes: Mapping[str, SearchOutcome]) -> None:
        """Write down what the searches found, by the search's id."""
        values = {name: outcome.to_json() for name, outcome in outcomes.items()}
        self.write_json(paths.SEARCHES, values)

    def plan(self) -> StudyPlan:
        """The plan that the last run wrote.

        Raises:
            StoreError: there is none: this is no study.
        """
        plan = self.load(paths.PLAN, StudyPlan)
        if plan is None:
            raise StoreError(
                f"{self.uri}: holds no {paths.PLAN}, so it is no study; give the folder "
                "<storage>/<name> of a run"
            )
        return plan


def _by_time(failures: Iterable[Failure]) -> list[Failure]:
    return sorted(failures, key=lambda failure: failure.time)
