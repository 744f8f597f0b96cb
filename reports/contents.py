"""Everything that a study's report holds: sentences, sections and figures, out of its store."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from record import paths
from record.external import compared_only
from record.frozen import Analysis, Trainings
from record.reliance import knocked_of
from record.study import StoredStudy
from record.tables import rows_of
from reports.beside import later
from reports.figures.activations import readable_tokens
from reports.figures.curves import few_shot_curves, training_curves
from reports.figures.diagrams import critical_difference_diagram, paired_differences
from reports.figures.forest import forest_plots
from reports.figures.noise import noise_figure
from reports.figures.panels import qualitative_panels
from reports.figures.paper import FIGURES, Drawn, paper_figures
from reports.figures.saved import focus_rows, saved_arrays
from reports.findings import in_lines
from reports.health import health
from reports.render.html import Figure, Page
from reports.render.layout import Headline, Section
from reports.sections.cases import cases_section, held_cases
from reports.sections.claim_study import study_of
from reports.sections.claims import FOLDER, claim_hashes, claims_section, judge, read_claims
from reports.sections.controls import controls_section
from reports.sections.details import ablations_section, cost_section
from reports.sections.exploratory import Exploratory
from reports.sections.few_shot import few_shot_section
from reports.sections.gaps import gaps_section
from reports.sections.groups import groups_section
from reports.sections.headline import headlines
from reports.sections.model_ranks import rank_models
from reports.sections.noise_floor import NoiseFloor, noise_floor, self_section
from reports.sections.notes import missing_notes, notes
from reports.sections.nsd_tolerances import nsd_section
from reports.sections.overview import means_section, models_section
from reports.sections.planned import added_notes, dropped_notes, frozen_notes
from reports.sections.provenance import provenance_section
from reports.sections.reliance import knocked_plan, reliance_section
from reports.sections.significance import COLUMNS, significance_table
from reports.sections.significance_layout import significance_section
from reports.sections.subgroups import subgroups_section
from reports.sections.tests_in_detail import details_section
from reports.sections.worst import worst_section
from reports.statistics.pairing import with_patients
from reports.statistics.scores import case_scores, run_scores_of, task_means


def contents_of(study: StoredStudy) -> Page:
    """The report's page, which names every table and figure of it.

    What another process may do (`reports.beside`) is named as early as can be: it reads the
    history, tests the models against themselves and prints figures while tables are computed.

    Raises:
        StoreError: a file of the study is damaged, or the storage is out of reach.
    """
    plan, commits = study.plan, study.finished.commits
    history_read = later(rows_of, study.store, paths.HISTORY, plan.finished(commits))
    rows = study.rows(paths.CASES)
    rows = with_patients(rows, {task: split.patients for task, split in study.splits.items()})
    floor_found = None if rows.empty else later(noise_floor, rows, plan, commits)
    history = history_read()
    curves = training_curves(history, plan)
    frozen = study.frozen
    against = Exploratory(frozen.analysis, Analysis.of(plan, claim_hashes())) if frozen else None
    table = pd.DataFrame(columns=list(COLUMNS))
    compares = bool(plan.comparisons) and not rows.empty
    if compares:
        table = significance_table(rows, plan, commits, against)
    floor = floor_found and floor_found()
    of_plan = [
        *frozen_notes(frozen, against, table),
        *added_notes(study.planned, frozen),
        *dropped_notes(study.planned, frozen, Trainings.of(plan)),
    ]
    remarks = [*notes(study, rows, table, floor), *of_plan]
    facts = [("trials", f"{len(plan.trials) - len(study.missing)} of {len(plan.trials)}")]
    findings = health(plan, commits, rows, history)
    said: list[Headline] = []
    if compares:
        said = headlines(table, plan, "patients" if "patient" in rows else "cases", findings)
        opening = [str(headline) for headline in said]
        open_notes = [*missing_notes(study), *of_plan]
        sections = [significance_section(table, plan, remarks, opening, open_notes)]
    else:
        reason = (
            "no trial has finished yet"
            if rows.empty
            else "the spec compares nothing (it has one model)"
        )
        opening = [f"No table: {reason}."]
        sections = [Section("significance", "Significance", [], table, remarks, opening)]
    banner = [(line.mark, line.text) for line in in_lines(findings)]
    first: list[Figure] = [] if table.empty else forest_plots(table, plan)
    begun = Page(plan.name, sections, facts, said, banner, first, curves)
    if rows.empty:
        return replace(begun, sections=[*sections, provenance_section(study, table)])
    return _with_scores(study, rows, history, table, floor, against, begun)


def _with_scores(
    study: StoredStudy,
    rows: pd.DataFrame,
    history: pd.DataFrame,
    table: pd.DataFrame,
    floor: NoiseFloor | None,
    against: Exploratory | None,
    begun: Page,
) -> Page:
    """The page with all that needs a finished trial."""
    store, plan, commits = study.store, study.plan, study.finished.commits
    noise = noise_figure(floor, table, plan)
    scores = case_scores(rows, plan, commits)
    paired = [] if table.empty else paired_differences(scores, table, plan)
    runs = run_scores_of(rows, plan, commits, "dice")
    means = task_means(scores)
    ranking = rank_models(scores, means, plan, runs=runs)
    arrays, masks = (
        saved_arrays(store, plan, commits),
        saved_arrays(store, plan, commits, paths.MASKS),
    )
    few_shot = few_shot_section(means, history, plan, runs)
    sections = list(begun.sections)
    if not table.empty:
        sections.append(means_section(table, means, plan))
    sections.append(models_section(scores, means, plan, ranking, runs))
    if not compared_only(plan):
        sections.append(few_shot)
    if not table.empty and not compared_only(plan):
        sections.append(gaps_section(table, history, plan, commits))
    optional = (groups_section(rows, plan), nsd_section(rows, plan, commits))
    sections += [part for part in optional if part is not None]
    if not table.empty and (parts := subgroups_section(rows, plan, commits, against)):
        sections.append(parts)
    if not compared_only(plan):
        sections.append(ablations_section(means, plan, commits))
        if found := controls_section(means, table, plan, commits):
            sections.append(found)
        if found := _reliance(study, rows):
            sections.append(found)
    if floor:
        sections.append(self_section(floor, plan))
    evidence = study_of(plan, commits, table, scores, means, history, focus_rows(arrays))
    judgements = []
    for path in sorted(FOLDER.glob("*.yaml")):
        judged = read_claims(path)
        marks = "; exploratory" if against and against.claims(path.name) else ""
        judgements.append((f"{judged['title']}{marks}", judge(judged, evidence)))
    held = held_cases(store.read(paths.report(paths.VIEWER)))
    listed = cases_section(rows, plan, held=held, study=store.uri)
    if compared_only(plan) and (worst := worst_section(listed.data, plan)):
        sections.append(worst)
    if not compared_only(plan):
        sections.append(claims_section(judgements))
    sections.append(listed)
    if not table.empty:
        sections.append(details_section(table, plan))
    if not compared_only(plan):
        sections.append(cost_section(plan, commits))
    sections.append(provenance_section(study, table))
    names = [name for name in FIGURES if name != "activations" or readable_tokens(arrays)]
    return replace(
        begun,
        sections=sections,
        pictures=[
            *qualitative_panels(arrays, masks, rows, plan),
            *begun.pictures,
            *few_shot_curves(few_shot.data, plan),
        ],
        more=[*critical_difference_diagram(ranking), *paired, *noise],
        paper=paper_figures(Drawn(plan, rows, history, arrays, masks), names),
    )


def _reliance(study: StoredStudy, rows: pd.DataFrame) -> Section | None:
    """What the networks lose without their block, where that was asked (`medvision reliance`)."""
    commits = study.finished.commits
    knocked, found = knocked_of(study.store, study.plan, commits)
    if not knocked:
        return None
    plan = knocked_plan(study.plan, knocked)
    names = {one.name for one in knocked}
    again = [pair for pair in plan.finished(found.commits) if pair[0].model in names]
    scored = with_patients(
        rows_of(study.store, paths.CASES, again),
        {task: split.patients for task, split in study.splits.items()},
    )
    whole = rows[rows["model"].isin(plan.models)]
    return reliance_section(plan, pd.concat([whole, scored]), {**commits, **found.commits})
