"""How many folds, seeds and cases a study needs: `python -m orchestrator.design SPEC --from STUDY
--detect dice=0.01 --power 0.8`.

From the variance components of a pilot (any finished study with several seeds), or from stated
ones, and from what trials take: a table of designs with their power, cost and time, and the
cheapest one that has the wanted power. Written to the study's `design/`, printed, and nothing is
trained. Exit code 0: a design has the wanted power; 1: none of those tried; 2: the arguments, the
spec or the pilot are wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from medvision.data.tasks import MSD_TASKS
from medvision.metrics.definitions import METRICS
from orchestrator.planning.cost import CostModel
from orchestrator.planning.design import Question, Wanted, alternatives, cheapest
from orchestrator.planning.found import Inputs
from orchestrator.planning.inputs import InputError, remembered, resolved
from orchestrator.planning.pilot import Pilot, PilotError, PilotRow, read_pilot
from orchestrator.planning.study_files import open_store
from orchestrator.spec.design_flags import LEAST_CASES, ArgumentError, Asked, asked
from orchestrator.spec.study import Spec
from orchestrator.spec.yaml_file import SpecError
from record import paths
from record.command import begin_command
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say
from reports.statistics.methods import COMPONENTS

FOUND, NONE, WRONG = 0, 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    try:
        return _design(asked(argv))
    except (ArgumentError, SpecError, InputError, PilotError, StoreError) as error:
        for line in str(error).splitlines():
            say(f"error: {line}", file=sys.stderr)
        return WRONG


def _design(wants: Asked) -> int:
    from orchestrator.console.designs import Shown, design_figure, design_section
    from reports.render.latex import to_latex
    from reports.render.layout import to_csv, to_markdown

    spec, wanted = resolved(wants.spec), Wanted(wants.power, wants.level)
    pilot = (
        read_pilot(StoredStudy.opened(Store(wants.pilot)), list(wants.detect))
        if wants.pilot
        else None
    )
    inputs = remembered(spec)
    questions, stands_in = _questions(wants, spec, pilot)
    given = [dict.fromkeys((task.name for task in spec.tasks), count) for count in wants.cases]
    cases, notes = ({}, []) if given else _cases(spec, inputs, pilot)
    patients, of_patients = _patients(spec, inputs, pilot)
    numbers = given or [cases]
    cost = pilot.cost if pilot else CostModel({})
    try:
        found = alternatives(
            spec,
            questions,
            folds=wants.folds,
            seeds=wants.seeds,
            cases=numbers,
            patients=patients,
            wanted=wanted,
            ratio=cost.ratio,
            blocks={name: block.size for name, block in inputs.blocks.items()},
        )
    except ValueError as error:
        raise ArgumentError(str(error)) from error
    if not found:
        least = min(
            round(count * patients.get(task, 1.0))
            for of_task in numbers
            for task, count in of_task.items()
        )
        raise ArgumentError(
            f"no design can be tested: a task has {least} {'patients' if patients else 'cases'}, "
            f"and a table needs {LEAST_CASES} of them and one in every fold: use fewer folds "
            "(--folds), or more cases"
        )
    best = cheapest(found, wanted)
    shown = Shown(
        study=spec.name,
        asked=_question(wants),
        source=_source(wants, pilot, questions),
        lanes=spec.resources.max_lanes or 1,
        wanted=wanted,
        best=best,
    )
    unused = [f"Not learnt from: {why}." for why in pilot.unused] if pilot else []
    notes = [*stands_in, *unused, *notes, *of_patients, *_notes(wants, cost)]
    section, figure = design_section(found, shown, notes), design_figure(found, shown)
    files = {
        "md": to_markdown(section, spec.name).encode(),
        "tex": to_latex(section).encode(),
        "csv": to_csv(section.data).encode(),
        "png": figure.png,
        "pdf": figure.pdf,
    }
    store = open_store(spec)
    for suffix, content in files.items():
        store.write(paths.design(suffix), content)
    say(files["md"].decode())
    say(f"Design   {store.uri}/{paths.design('md')} (and .csv, .tex, .png, .pdf)")
    return NONE if best is None else FOUND


def _questions(wants: Asked, spec: Spec, pilot: Pilot | None) -> tuple[list[Question], list[str]]:
    """Every row of the spec's table that must show its difference, with the components of the
    pilot's row of that name, or of every row that the pilot has; and a note on that.
    """
    rows = [
        (comparison.baseline, candidate, task.name, fraction, metric, comparison.variance)
        for comparison in spec.all_comparisons()
        for candidate in comparison.candidates
        for task in spec.tasks
        for fraction in spec.fractions
        for metric in comparison.metrics or spec.evaluation.metrics
        if metric in wants.detect
    ]
    tested = {row[4] for row in rows}
    if lacking := [metric for metric in wants.detect if metric not in tested]:
        raise ArgumentError(
            f"--detect {lacking[0]}: no comparison of {spec.name} tests it: name two models and "
            "the metric in the spec (evaluation.metrics, comparisons)"
        )
    found: dict[tuple[Any, ...], Question] = {}
    strange = False
    for baseline, candidate, task, fraction, metric, variance in rows:
        place = f"{candidate} against {baseline}, {task}, {metric}"
        names = (baseline, candidate, task, fraction)
        sources: list[Mapping[str, float]] = [wants.assumed] if wants.assumed else []
        if pilot:
            same = [row for row in pilot.rows if row.metric == metric]
            exact = [row for row in same if _names(row) == names]
            strange |= not exact
            sources = [row.components for row in exact or same]
        for components in sources:
            ask = Question(place, task, metric, wants.detect[metric], components, variance)
            key = (task, metric, variance, *components.values())
            found.setdefault(key, ask)
    note = (
        "The pilot has other models, tasks or fractions than this spec: all of its rows stand in "
        "for each of the spec's that it lacks, and the least power is shown."
    )
    return list(found.values()), [note] if strange else []


def _names(row: PilotRow) -> tuple[str, str, str, float]:
    return (row.baseline, row.candidate, row.task, row.fraction)


def _cases(spec: Spec, inputs: Inputs, pilot: Pilot | None) -> tuple[dict[str, int], list[str]]:
    """Cases of every task (as read before, as the pilot has them, or MSD's), and what there is to
    say of it.
    """
    cases, notes = {}, []
    for task in spec.tasks:
        if tested := _tested(inputs, task.name):
            cases[task.name] = len(tested)
            continue
        if pilot and task.name in pilot.cases:
            cases[task.name], source = pilot.cases[task.name], "the pilot's"
        elif task.name in MSD_TASKS:
            cases[task.name], source = MSD_TASKS[task.name].cases, "MSD's number"
        else:
            raise ArgumentError(
                f"how many cases {task.name} has is not known: give --cases N, or set data.root to "
                "its folder and run a dry run"
            )
        notes.append(f"{task.name} was not read yet: {cases[task.name]} cases, {source}.")
    return cases, notes


def _patients(
    spec: Spec, inputs: Inputs, pilot: Pilot | None
) -> tuple[dict[str, float], list[str]]:
    """Patients a case of every task with a grouping, as read before or as the pilot has them, and
    what there is to say of it.
    """
    grouped = spec.splits.group_file is not None or spec.splits.group_pattern is not None
    found, notes = {}, []
    for task in (task.name for task in spec.tasks):
        tested, patient_of = _tested(inputs, task), inputs.tasks[task].patients
        if tested and grouped:
            patients, cases = len({patient_of[case] for case in tested}), len(tested)
        elif grouped and pilot and task in pilot.patients:
            patients, cases = pilot.patients[task], pilot.cases[task]
        elif grouped:
            notes.append(f"How many patients {task} has is not known: each case counts as one.")
            continue
        else:
            if pilot and task in pilot.patients:
                notes.append(
                    f"The pilot's variances of {task} are of patients, and this spec names none: "
                    "each case counts as one (set splits.group_file or group_pattern)."
                )
            continue
        found[task] = patients / cases
        if patients < cases:
            notes.append(f"The tests of {task} count patients: {patients} of {cases} cases.")
    return found, notes


def _tested(inputs: Inputs, task: str) -> set[str]:
    """The cases of a task that was read before."""
    return {case for fold in inputs.tasks[task].folds for case in fold.test}


def _question(wants: Asked) -> str:
    differences = " and ".join(
        f"{METRICS[metric].title} {value:g} {METRICS[metric].unit}".strip()
        for metric, value in wants.detect.items()
    )
    return f"{wants.spec.name}: to detect a difference of {differences}"


def _source(wants: Asked, pilot: Pilot | None, questions: Sequence[Question]) -> str:
    """Where the variances are from; stands in every output."""
    if pilot is None:
        values = ", ".join(f"{name} {value:g}" for name, value in (wants.assumed or {}).items())
        return f"Variances are stated assumptions, not measured: {values}."
    rows = [row for row in pilot.rows if any(row.components is q.components for q in questions)]
    first = rows[0]
    deviations = ", ".join(f"{name} {first.components[name] ** 0.5:.2g}" for name in COMPONENTS)
    more = f" and {len(rows) - 1} rows more" if len(rows) > 1 else ""
    counted = "patients" if first.task in pilot.patients else "cases"
    return (
        f"Variances of the pilot {pilot.name} ({first.trainings} trainings a model on "
        f"{first.folds} training sets, {first.cases} {counted}): standard deviations {deviations} "
        f"({METRICS[first.metric].title}, {first.task}{more})."
    )


def _notes(wants: Asked, cost: CostModel) -> list[str]:
    spec = wants.spec
    share = f"{1 - wants.level:g}"
    repeats = spec.splits.repeats
    corrected = f", the first step of Holm among {wants.tests} tests" if wants.tests > 1 else ""
    return [
        f"Power: the probability that p methods is below {share}{corrected or ', uncorrected'}, "
        "where the difference is as large as that and the variances are as stated; of several rows "
        "the least. Sees: the difference that the design finds with the wanted power, in the "
        "metric's unit; of several rows of a metric the largest. From few training sets variances "
        "are known roughly, so plan with a margin.",
        *([f"Folds: of each of {repeats} cross-validations (splits.repeats)."] * (repeats > 1)),
        (
            "Cost: the models' arithmetic times what the pilot's trials took for theirs."
            if cost.is_taught
            else "Cost: arithmetic at an assumed rate; no trial was measured."
        )
        + (" A search comes on top." if spec.search else "")
        + (
            ""
            if spec.resources.max_lanes
            else " Days are of one lane: set resources.max_lanes for more."
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
