"""The viewer's page: served with every case of a study, or one file that holds some of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from medvision.errors import DataError
from orchestrator.viewing.cases import StudyCases
from orchestrator.viewing.scenes import MOST_VOXELS, Scenes
from record import paths
from record.study import StoredStudy
from reports.render.inline import json_text, rendered

MOST_BYTES = 24_000_000  # of the cases in one file; the page itself is 40 kB
LARGEST = 2**28  # voxels of a file; more take many GB of a driver's memory to be made coarse
SMALLEST = 32**3  # voxels; a case that takes too much room even so is left out


def served_page(cases: StudyCases, first: tuple[str, str] | None = None) -> str:
    """The page that asks its server for each case.

    Args:
        first: task and case that it opens with; by default the first of all.
    """
    listed = {
        task: [(case, cases.extremes[task].get(case, "")) for case in names]
        for task, names in cases.cases.items()
    }
    return _page(cases.plan.name, listed, first, [], served=True)


def embedded_page(scenes: Scenes, key: str = "") -> tuple[str, list[str]]:
    """One file with the best, the median and the worst case of each task, and what is missing in
    it, a line each. Below 25 MB: the more cases, the coarser each is shown.

    Args:
        key: what the file is made of; it stands in a file that lacks nothing.
    """
    cases = scenes.cases
    wanted = [(task, case) for task in cases.plan.tasks for case in cases.extremes[task]]
    texts, missing, listed = [], [], dict[str, list[tuple[str, str]]]()
    for task, case in wanted:
        try:
            texts.append(_fitting(scenes, task, case, MOST_BYTES // len(wanted)))
        except (DataError, OSError) as error:
            missing += [] if str(error) in missing else [str(error)]
            continue
        listed.setdefault(task, []).append((case, cases.extremes[task][case]))
    made_of = "" if missing else key
    return _page(cases.plan.name, listed, None, texts, served=False, key=made_of), missing


def write_embedded(study: StoredStudy, scenes: Scenes | None = None) -> list[str]:
    """Write `report/viewer.html` of a study; what is missing in it, a line each. Nothing is written
    without any case, nor where the file is there already, of the same results.

    Args:
        scenes: the study's, where they are to be written anew in any case.

    Raises:
        DataError: of given scenes none can be shown.
        StoreError: the storage is out of reach, or the study cannot be read.
    """
    cases = scenes.cases if scenes else StudyCases(study)
    key, anew = _key(cases), scenes is not None
    if not anew and key.encode() in (study.store.read(paths.report(paths.VIEWER)) or b""):
        return []
    page, missing = embedded_page(scenes or Scenes(cases), key)
    if 'class="scene"' in page:
        study.store.write(paths.report(paths.VIEWER), page.encode())
    elif anew:
        raise DataError("; ".join([f"no case for {paths.VIEWER}, nothing is written", *missing]))
    return missing


def _key(cases: StudyCases) -> str:
    """A digest of the page without cases and of the files of every finished trial."""
    empty = _page(cases.plan.name, {}, None, [], served=False)
    files = {name: marker.sha256 for name, marker in sorted(cases.commits.items())}
    return hashlib.sha256(json.dumps([empty, cases.extremes, files]).encode()).hexdigest()


def _fitting(scenes: Scenes, task: str, case: str, room: int) -> Any:
    """A scene as JSON of at most `room` bytes.

    Raises:
        DataError: it cannot be read, or is too large even when it is coarse.
    """
    command = f"; `medvision view STUDY --task {task} --case {case}` shows it"
    if scenes.voxels(task, case) > LARGEST:
        raise DataError(f"{task}, {case}: its file is too large for {paths.VIEWER}{command}")
    most = min(MOST_VOXELS, int(1.5 * room))  # a voxel takes about one byte of text
    while most >= SMALLEST:
        scene = scenes.scene(task, case, most=most)
        text = json_text(scene)
        if len(text) <= room:
            return text
        voxels = math.prod(scene["shape"])
        most = min(most // 2, int(voxels * room / len(text)))
    raise DataError(f"{task}, {case}: is too large for {paths.VIEWER} beside the others{command}")


def _page(
    study: str,
    listed: dict[str, list[tuple[str, str]]],
    first: tuple[str, str] | None,
    scenes: Sequence[Any],
    *,
    served: bool,
    key: str = "",
) -> str:
    every = [(task, case) for task, cases in listed.items() for case, _ in cases]
    chosen = first or (every[0] if every else None)
    index = {
        "served": served,
        "key": key,
        "tasks": [
            {"name": task, "cases": [list(one) for one in cases]} for task, cases in listed.items()
        ],
        "first": "/".join(quote(part, safe="") for part in chosen) if chosen else "",
    }
    return str(rendered("viewer.html.j2", study=study, index=json_text(index), scenes=scenes))
