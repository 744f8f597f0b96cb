"""One case as the viewer's page takes it: the image, the truth and every model's mask."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from medvision.data.fingerprints import require_unchanged
from medvision.data.nifti import Image, Truth, open_volume, read_image, read_truth
from medvision.data.readers.base import Case
from medvision.data.readers.registry import read_task
from medvision.errors import DataError
from orchestrator.planning.study_files import stored_spec
from orchestrator.viewing.cases import StudyCases, Tested, dice_of
from orchestrator.viewing.grid import ViewGrid, packed_image, packed_masks
from orchestrator.viewing.predictions import Predictions
from reports.figures.masks import volume_word

MOST_VOXELS = 256**3  # of a case, which a browser holds and draws without delay


class Scenes:
    """Cases of a study as the viewer's page takes them.

    Args:
        cases: the study's.
        root: where its data lie now; None: where they lay when it was run.
        again: predict again what was not kept.
        trust_code: run the Python that the weights of a custom model carry, for that.

    Raises:
        StoreError: study.json is missing, or of another version.
    """

    def __init__(
        self,
        cases: StudyCases,
        *,
        root: Path | None = None,
        again: bool = False,
        trust_code: bool = False,
    ) -> None:
        self.cases, self.study = cases, cases.study
        self.spec = stored_spec(self.study)
        self.root = root or Path(self.study.settings.data_root)
        self.predictions = Predictions(cases, again=again, trust_code=trust_code)
        self._files: dict[str, Mapping[str, Case]] = {}
        self._read = functools.lru_cache(maxsize=1)(self._loaded)  # a page may try several grids

    def voxels(self, task: str, case: str) -> int:
        """Of a case's file, as its header says.

        Raises:
            DataError: no such case, or its header cannot be read.
        """
        return math.prod(open_volume(self._case(task, case).image).grid.shape)

    def scene(self, task: str, case: str, *, most: int = MOST_VOXELS) -> dict[str, Any]:
        """Values of JSON; `viewer.js` says what it reads.

        Args:
            most: voxels of the grid that is shown.

        Raises:
            DataError: no such case, or its files cannot be read.
        """
        found = self._case(task, case)
        image, truth, structures = self._read(task, found)
        voxels = image.channels[0]
        grid = ViewGrid.of(voxels.shape, image.spacing, image.affine, most)
        small = [grid.mask(mask) for mask in truth.masks]
        notes = self._notes(found, task, grid, voxels.shape)
        layers = [_layer("truth", small, _volumes(structures, truth.masks, {}), truth=True)]
        for model in self.cases.plan.models:
            layers.append(self._of_model(model, task, found, grid, truth.masks, structures))
        return {
            "task": task,
            "case": case,
            "rank": self.cases.extremes[task].get(case, ""),
            "shape": list(grid.shape),
            "spacing": list(grid.spacing),
            "letters": [list(pair) for pair in grid.letters],
            "file": grid.described(voxels.shape),
            "start": grid.centre(np.any(small, axis=0)),
            "structures": structures,
            "image": packed_image(grid.image(voxels)),
            "layers": layers,
            "notes": notes,
        }

    def _loaded(self, task: str, case: Case) -> tuple[Image, Truth, list[str]]:
        """The channel that the network sees (the first of several), and the label groups."""
        about = next(one for one in self.spec.tasks if one.name == task)
        channel = 0 if about.channel == "all" else about.channel
        groups = self.spec.groups(about)
        return read_image(case.images, channel), read_truth(case, groups), list(groups)

    def _case(self, task: str, case: str) -> Case:
        if case not in self.cases.cases.get(task, ()):
            raise DataError(f"the study has no test case {case!r} of task {task!r}")
        if task not in self._files:
            read = read_task(self.root, task)
            self._files[task] = {one.id: one for one in (*read.cases, *read.test_cases)}
        if case not in self._files[task]:
            raise DataError(f"{self.root / task}: has no case {case!r} any more")
        return self._files[task][case]

    def _notes(self, case: Case, task: str, grid: ViewGrid, shape: tuple[int, ...]) -> list[str]:
        notes = []
        try:
            require_unchanged(case, self.study.splits[task].cases.get(case.id, ""))
        except DataError:
            notes.append(
                "The image or its label has changed since the study was planned: truth and scores "
                "are of different files."
            )
        if grid.step != (1, 1, 1):
            sizes = " × ".join(str(shape[axis]) for axis in grid.axes)
            notes.append(
                f"Shown on a coarser grid of {' × '.join(map(str, grid.shape))} voxels; the file "
                f"has {sizes}. Small structures may be lost to the eye; Dice and counts of voxels "
                "are of the full grid."
            )
        return notes

    def _of_model(
        self,
        model: str,
        task: str,
        case: Case,
        grid: ViewGrid,
        truths: np.ndarray,
        structures: list[str],
    ) -> dict[str, Any]:
        tested = self.cases.tested_by(model, task, case.id)
        if tested is None:
            return _layer(model, None, [], ["No finished trial of it has tested this case."])
        found = self.predictions.of(tested, case)
        masks, warnings = found.masks, [found.warning] if found.warning else []
        if masks is not None and masks.shape != truths.shape:
            warnings.append(
                f"Its mask has the shape {masks.shape}, the truth {truths.shape}: the files or the "
                "label groups have changed."
            )
            masks = None
        if tested.problem:
            warnings.append(tested.problem)
        if masks is None:
            return _layer(model, None, _dice_lines(tested, self.cases), warnings)
        if word := volume_word(masks):
            warnings.insert(0, f"Its mask is {word}.")
        dice = dice_of(tested, self.cases.plan)
        lines = [_trial(tested), *_volumes(structures, masks, dice)]
        return _layer(model, [grid.mask(mask) for mask in masks], lines, warnings)


def _layer(
    name: str,
    masks: list[np.ndarray] | None,
    lines: list[str],
    warnings: list[str] | None = None,
    *,
    truth: bool = False,
) -> dict[str, Any]:
    data = None if masks is None else packed_masks(masks)
    return {
        "name": name,
        "truth": truth,
        "data": data,
        "lines": lines,
        "warnings": warnings or [],
    }


def _trial(tested: Tested) -> str:
    cell = tested.marker.cell
    return f"fold {cell.fold}, seed {cell.seed}, {cell.fraction:.0%} of the data"


def _dice_lines(tested: Tested, cases: StudyCases) -> list[str]:
    dice = dice_of(tested, cases.plan)
    lines = [_score(name, value, len(dice)) for name, value in dice.items()]
    return [_trial(tested), *lines]


def _volumes(structures: list[str], masks: np.ndarray, dice: Mapping[str, float]) -> list[str]:
    """A line a structure: its Dice where it has one, and its voxels on the file's grid."""
    lines = []
    for name, mask in zip(structures, masks, strict=True):
        count = f"{int(mask.sum()):,} voxels"
        lines.append(
            f"{_score(name, dice[name], len(masks))}, {count}"
            if name in dice
            else (f"{name}: {count}" if len(masks) > 1 else count)
        )
    return lines


def _score(name: str, dice: float, structures: int) -> str:
    value = "no Dice (the structure is not there)" if math.isnan(dice) else f"Dice {dice:.3f}"
    return f"{name}: {value}" if structures > 1 else value
