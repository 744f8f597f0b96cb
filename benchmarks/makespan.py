"""How long a study keeps a cluster, in which order: simulated, through the ordering code that the
driver uses.

    python -m benchmarks.makespan

Trials are those of ablations/full.yaml (8 models, ten tasks, fractions, folds), with the arithmetic
that a plan estimates them by. What a trial really takes is that, times a factor of its model, one
of its task, and noise: log-normal, with the standard deviations given on the command line, drawn
`--draws` times; the worst draw is shown. Each column is the time until the last trial ends,
over the lower bound max(total / GPUs, longest trial), which no order can beat:

- grid order: trials as the grid lists them, as a loop over a sweep would.
- arithmetic: longest first by the arithmetic alone (`Plan.in_order`), as if nothing were learned.
- learning: the driver's way (`Scheduler` and `CostModel`): every finished trial teaches, and what
  waits is reordered.
- known: longest first by the true times, which are not known in advance.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.executors.lanes.scheduler import Scheduler, Waiting
from orchestrator.planning.cost import CostModel, longest_first, makespan
from orchestrator.planning.found import Inputs, TaskInputs
from orchestrator.planning.plan import Plan, Trial, make_plan
from orchestrator.spec.resources import WorkerResources
from orchestrator.spec.yaml_file import load_spec
from record.arguments import amount, whole
from record.command import begin_command

SPEC = Path(__file__).parents[1] / "ablations" / "full.yaml"
STUDIES = {
    1_200: ["resources.gpus_per_worker=1"],
    10_000: [
        "resources.gpus_per_worker=1",
        "fractions=[0.1, 0.2, 0.3, 0.5, full]",
        "seeds=[0, 1, 2, 3, 4]",
    ],
}
GPUS = (8, 64, 512)
TARGET = 0.05


@dataclass(frozen=True)
class Row:
    """Seconds of one draw; `orders` has a time of finish for each column."""

    trials: int
    gpus: int
    total: float
    longest: float
    orders: dict[str, float]

    @property
    def bound(self) -> float:
        return max(self.total / self.gpus, self.longest)

    def over(self, order: str) -> float:
        return self.orders[order] / self.bound - 1


def study(overrides: Sequence[str]) -> Plan:
    """The plan of a study whose data are not here."""
    spec = load_spec(SPEC, overrides)
    missing = Inputs({task.name: TaskInputs(missing="simulated") for task in spec.tasks}, {})
    return make_plan(spec, missing, {}, {})


def true_seconds(
    plan: Plan, rng: np.random.Generator, models: float, tasks: float, noise: float
) -> dict[str, float]:
    factors: dict[str, float] = {}
    for kind, deviation in (("model", models), ("task", tasks)):
        for name in dict.fromkeys(getattr(trial.cell, kind) for trial in plan.trials):
            factors[name] = float(rng.lognormal(0, deviation))
    return {
        trial.name: trial.work.arithmetic
        * factors[trial.cell.model]
        * factors[trial.cell.task]
        * float(rng.lognormal(0, noise))
        for trial in plan.trials
    }


def learning(plan: Plan, truth: dict[str, float], gpus: int) -> float:
    """Time of finish where the waiting trials are reordered as others finish, as
    `orchestrator.executors.lanes.trial_source.TrialSource` does.
    """
    cost, shape = CostModel(plan.cost.works), WorkerResources(gpus_per_worker=1)
    packer = Scheduler(
        Waiting(trial.name, shape, cost.seconds(trial.name)) for trial in plan.trials
    )
    running: list[tuple[float, str]] = []
    now, ended = 0.0, 0
    while len(packer) or running:
        while len(running) < gpus and (waiting := packer.take([], None, None)):
            heapq.heappush(running, (now + truth[waiting.item], waiting.item))
        now, name = heapq.heappop(running)
        cost.learn(name, truth[name])
        ended += 1
        if ended % (1 + len(packer) // 50) == 0:
            packer.estimate_again(cost.seconds)
    return now


def simulate(plan: Plan, truth: dict[str, float], gpus: int) -> Row:
    def finish(order: Sequence[Trial]) -> float:
        return makespan([truth[trial.name] for trial in order], gpus)

    orders = {
        "grid order": finish(plan.trials),
        "arithmetic": finish(plan.in_order()),
        "learning": learning(plan, truth, gpus),
        "known": finish(longest_first(plan.trials, lambda trial: truth[trial.name])),
    }
    return Row(len(plan.trials), gpus, sum(truth.values()), max(truth.values()), orders)


def main() -> None:
    begin_command()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--draws",
        type=whole,
        default=5,
        help="draws of the true times; the worst is shown (default 5)",
    )
    for name, default in (("models", 0.5), ("tasks", 0.3), ("noise", 0.1)):
        parser.add_argument(
            f"--{name}",
            type=amount,
            default=default,
            help=f"standard deviation of logs ({default})",
        )
    options = parser.parse_args()
    print(
        "| trials | GPUs | bound, h | set by | grid order | arithmetic | learning | known | within "
        "5 % |"
    )
    print("|--:|--:|--:|---|--:|--:|--:|--:|---|")
    for count, overrides in STUDIES.items():
        plan = study(overrides)
        assert len(plan.trials) == count
        for gpus in GPUS:
            rng = np.random.default_rng(0)
            rows = [
                simulate(
                    plan,
                    true_seconds(plan, rng, options.models, options.tasks, options.noise),
                    gpus,
                )
                for _ in range(options.draws)
            ]
            worst = {order: max(row.over(order) for row in rows) for order in rows[0].orders}
            limits = {
                "total / GPUs" if row.total / gpus > row.longest else "longest trial"
                for row in rows
            }
            bounds = sorted(row.bound / 3600 for row in rows)
            cells = [
                f"{count:,}",
                gpus,
                f"{bounds[0]:.1f} to {bounds[-1]:.1f}",
                " or ".join(sorted(limits)),
            ]
            cells += [f"{100 * over:+.1f} %" for over in worst.values()]
            cells += ["yes" if worst["learning"] <= TARGET else "no"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)


if __name__ == "__main__":
    main()
