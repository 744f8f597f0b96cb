"""Which rows stand in the frozen analysis: a row whose test, family, margin, models, data or
scoring is not as it was frozen is exploratory.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from record.frozen import Analysis

Test = tuple[str, str, str, float, str]  # baseline, candidate, task, fraction, metric
SURFACE = {"nsd": ("nsd",), "hd95": ("hd95", "hd", "assd")}  # definition -> metrics that follow it


@dataclass(frozen=True)
class _Rule:
    """How a test was declared; `members`: the tests that are corrected with it."""

    family: tuple[str, ...]
    margin: float | None
    variance: str
    members: frozenset[Test]


class Exploratory:
    """The frozen analysis against that of the report.

    Args:
        frozen: as it was written.
        now: as the plan and the claims are.
    """

    def __init__(self, frozen: Analysis, now: Analysis) -> None:
        self.frozen, self.now = frozen, now
        self._frozen, self._now = _rules(frozen), _rules(now)

    def row(self, test: Test) -> bool:
        """Whether a row of the report's table is exploratory."""
        if self.apart(test):
            return True
        rule, before = self._now[test], self._frozen[test]
        changed = (rule.margin, rule.variance) != (before.margin, before.variance)
        return changed or self._conditions_changed(*test)

    def apart(self, test: Test) -> bool:
        """Whether a row is no part of a frozen family: the test was not frozen, or the family has
        lost a test, was split or joined with another, or is declared in another way. Other
        exploratory rows still count in theirs, so that a change makes no correction of the frozen
        rows milder.
        """
        before = self._frozen.get(test)
        if before is None or test not in self._now:
            return True
        together = self._now[test].members & self._frozen.keys()  # an added test joins no family
        return together != before.members or any(
            self._now[member].family != before.family for member in before.members
        )

    def claims(self, name: str) -> bool:
        """Whether a file of claims is not as it was frozen."""
        return self.frozen.claims.get(name) != self.now.claims.get(name)

    def differences(self) -> list[str]:
        """What has changed since the freeze, a line each."""
        then, now = self.frozen, self.now
        found = [
            *_tests("tests that were not frozen", self._now.keys() - self._frozen.keys()),
            *_tests("frozen tests that are left out", self._frozen.keys() - self._now.keys()),
        ]
        shared = self._now.keys() & self._frozen.keys()
        for name in ("family", "margin", "variance"):
            changed = {
                test: (getattr(self._frozen[test], name), getattr(self._now[test], name))
                for test in shared
                if getattr(self._frozen[test], name) != getattr(self._now[test], name)
            }
            for pair in sorted(set(changed.values()), key=str):
                tests = {test for test, values in changed.items() if values == pair}
                found += _tests(f"{name} {_shown(pair[0])} -> {_shown(pair[1])}", tests)
        found += _tests("frozen families that were split or joined", self._regrouped(shared))
        found += _changes("subgroups", _divisions(then), _divisions(now))
        found += _changes("both_empty", then.both_empty, now.both_empty)
        before, after = (one.scoring.model_dump(mode="json") | {"own": {}} for one in (then, now))
        found += _changes("scoring", before, after)
        for name in sorted(then.scoring.own):
            found += _changes(f"scoring own {name}", *self._own(name))
        found += _changes("models", *self._models)
        for name in ("blocks", "training", "data"):
            found += _changes(name, getattr(then, name), getattr(now, name))
        for name in ("splits", "search"):
            found += _changes(name, *self._where_known(name))
        for name in ("excluded", "claims"):
            found += _changes(name, getattr(then, name), getattr(now, name))
        return found

    @property
    def _models(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """The models' settings, frozen and now: those that decide numbers, where both know them."""
        then, now = self.frozen, self.now
        if then.counted is None or now.counted is None:
            return then.models, now.models
        return then.counted, now.counted

    def _where_known(self, name: str) -> tuple[Any, Any]:
        """A part, frozen and now; nothing where one of them is older than the part."""
        parts = getattr(self.frozen, name), getattr(self.now, name)
        return ({}, {}) if None in parts else parts

    def _own(self, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """A metric of one's own, frozen and now; nothing of one that the freeze does not describe:
        it is older than this record, or the metric came later and has no frozen test.
        """
        before = self.frozen.scoring.own.get(metric)
        return ({}, {}) if before is None else (before, self.now.scoring.own.get(metric, {}))

    def _regrouped(self, shared: Set[Test]) -> set[Test]:
        """The tests that are corrected with other frozen tests than they were, though all are
        there and the columns of their family are the same.
        """
        return {
            test
            for test in shared
            if self._frozen[test].family == self._now[test].family
            and self._frozen[test].members & shared != self._now[test].members & shared
        }

    def _conditions_changed(
        self, baseline: str, candidate: str, task: str, fraction: float, metric: str
    ) -> bool:
        """Whether what the row's numbers come from was changed after the freeze."""
        then, now = self.frozen, self.now
        if (then.both_empty, then.training) != (now.both_empty, now.training):
            return True
        for name in ("splits", "search"):
            before, after = self._where_known(name)
            if before != after:
                return True
        if _of_task(then.data, task) != _of_task(now.data, task):
            return True
        if then.excluded.get(task) != now.excluded.get(task):
            return True
        models_then, models_now = self._models
        for model in (baseline, candidate):
            if models_then.get(model) != models_now.get(model):
                return True
            if then.blocks.get(model) != now.blocks.get(model):
                return True
        for definition, metrics in SURFACE.items():
            before, after = (getattr(one.scoring, definition) for one in (then, now))
            if metric in metrics and before != after:
                return True
        own_before, own_now = self._own(metric)
        if own_before != own_now:
            return True
        tolerances = (one.scoring.tolerances.get(task) for one in (then, now))
        return metric == "nsd" and len({json.dumps(one) for one in tolerances}) > 1


def _of_task(data: Mapping[str, Any], task: str) -> dict[str, Any]:
    tasks = data.get("tasks", {})
    return {**data, "tasks": tasks.get(task)}


def _rules(analysis: Analysis) -> dict[Test, _Rule]:
    """Every test of an analysis with its rule."""
    found: dict[Test, _Rule] = {}
    for comparison in analysis.comparisons:
        families: dict[tuple[Any, ...], list[Test]] = {}
        for candidate, task, fraction, metric in itertools.product(
            comparison.candidates, analysis.tasks, analysis.fractions, comparison.metrics
        ):
            key = {"candidate": candidate, "task": task, "fraction": fraction, "metric": metric}
            test = (comparison.baseline, candidate, task, fraction, metric)
            families.setdefault(tuple(key[name] for name in comparison.family), []).append(test)
        for tests in families.values():
            for test in tests:
                found[test] = _Rule(
                    tuple(sorted(comparison.family)),
                    comparison.equivalence.get(test[4]),
                    comparison.variance,
                    frozenset(tests),
                )
    return found


def _divisions(analysis: Analysis) -> dict[str, Any]:
    """The declared divisions, by comparison."""
    return {
        f"{', '.join(one.candidates)} against {one.baseline}": [
            division.model_dump(mode="json", exclude_defaults=True) for division in one.subgroups
        ]
        for one in analysis.comparisons
        if one.subgroups
    }


def _tests(what: str, tests: Iterable[Test]) -> Iterator[str]:
    """Tests by the two models, a line each."""
    by_models: dict[tuple[str, str], list[Test]] = {}
    for test in sorted(tests):
        by_models.setdefault(test[:2], []).append(test)
    for (baseline, candidate), of in by_models.items():
        metrics, tasks = sorted({test[4] for test in of}), sorted({test[2] for test in of})
        yield (
            f"{what}: {candidate} against {baseline}, {', '.join(metrics)} in {', '.join(tasks)} "
            f"({len(of)} {'row' if len(of) == 1 else 'rows'})"
        )


def _changes(name: str, before: Any, after: Any) -> Iterator[str]:
    """Values that differ, by dotted key."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}, key=str):
            yield from _changes(f"{name} {key}", before.get(key), after.get(key))
    elif before != after:
        yield f"{name}: {_shown(before)} -> {_shown(after)}"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value).replace('"', "") if not isinstance(value, str) else value
    return f"{text[:40]}..." if len(text) > 60 else text
