"""Probabilities of another tool in the place of masks."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from medvision.data.label_files import bits_of, read_probabilities
from medvision.errors import DataError
from orchestrator.compare import compare, main
from orchestrator.run import main as run
from record import paths
from record.store import Store
from record.study import StoredStudy
from tests.conftest import TASK
from tests.orchestrator.comparing.masks import SPACING, moved, truths, written

UNIT = (1.0, 1.0, 1.0)


def saved(place: Path, values: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), place)
    return place


def test_probabilities_score_as_the_masks_that_they_stand_for(
    tiny_spec: Path, spheres: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = {name: tmp_path / name for name in ("masks", "maps")}
    for folder in folders.values():
        folder.mkdir()
    for path in (spheres / TASK / "labelsTr").glob("case_*.nii.gz"):
        image = nibabel.load(path)
        label = np.roll(np.asarray(image.dataobj), 1, axis=0)
        nibabel.save(nibabel.Nifti1Image(label, image.affine), folders["masks"] / path.name)
        maps = np.where(label[..., None] == (0, 2, 1), 0.4, 0.3).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(maps, image.affine), folders["maps"] / path.name)
    text = [line for line in tiny_spec.read_text().splitlines() if "- {label" not in line]
    models = [
        f'  - {{label: external, name: {name}, masks: "{folder}"'
        f"{', probabilities: true' if name == 'maps' else ''}}}"
        for name, folder in folders.items()
    ]
    place = text.index("models:") + 1
    tiny_spec.write_text("\n".join([*text[:place], *models, *text[place:]]))
    groups = "data.label_groups={rim: [1], core: [2]}"  # channels: background, core, rim
    more = ["--set", "tracking.enabled=false", "--set", groups]
    assert run([str(tiny_spec), "--in-process", *more]) == 0
    study = StoredStudy.opened(Store(str(tmp_path / "runs" / "tiny")))
    rows = study.rows(paths.CASES).drop(columns="eval_id")
    masks, maps = (
        rows[rows["model"] == name].drop(columns="model").reset_index(drop=True)
        for name in ("masks", "maps")
    )
    assert len(masks) == 2 * 15
    assert masks.equals(maps)
    assert (
        run(
            [
                str(tiny_spec),
                "--in-process",
                *more,
                "--set",
                "models.1.labels={rim: [3], core: [4]}",
            ]
        )
        == 2
    )
    assert "labels: probabilities have no values" in capsys.readouterr().err


def test_channels_are_structures_or_come_after_the_background(tmp_path: Path) -> None:
    each = np.array([[0.6, 0.7], [0.5, 0.51]]).reshape(2, 1, 1, 2)
    found = read_probabilities(saved(tmp_path / "a.nii.gz", each), "", UNIT, 2)
    assert found.values.ravel().tolist() == [3, 2]  # 0.5 itself is not above it
    assert bits_of({"a": [1], "b": [2]}) == {"a": [1, 3], "b": [2, 3]}
    likeliest = np.array([[0.4, 0.35, 0.25], [0.3, 0.3, 0.4]]).reshape(2, 1, 1, 3)
    found = read_probabilities(saved(tmp_path / "b.nii.gz", likeliest), "", UNIT, 2)
    assert found.values.ravel().tolist() == [0, 2]
    one = saved(tmp_path / "c.nii.gz", np.array([0.4, 0.9]).reshape(2, 1, 1))
    assert read_probabilities(one, "", UNIT, 1).values.ravel().tolist() == [0, 1]
    with pytest.raises(DataError, match="has 1 channels; probabilities of 3 structures are as"):
        read_probabilities(one, "", UNIT, 3)
    for wrong in (2.0, np.nan):
        place = saved(tmp_path / "d.nii.gz", np.array([0.4, wrong]).reshape(2, 1, 1))
        with pytest.raises(DataError, match="probabilities lie between 0 and 1"):
            read_probabilities(place, "", UNIT, 1)


@pytest.mark.parametrize("background", [False, True])
def test_a_comparison_scores_probabilities_as_the_masks_that_they_stand_for(
    folders: Path, capsys: pytest.CaptureFixture[str], background: bool
) -> None:
    """Of one method alone, channels in the order of --labels, from files and from arrays."""
    maps = {}
    for case, label in moved(truths(), 2).items():
        inside = np.stack([label == 2, label == 1], -1)
        values = np.where(inside, 0.6, 0.2).astype(np.float32)
        if background:
            values = np.concatenate([np.where(label == 0, 0.5, 0.3)[..., None], values], -1)
        maps[case] = values.astype(np.float32)
    written(folders / "maps", maps)
    line = [str(folders / "truth"), "--labels", "core=2", "a_rim=1", "--masks"]
    line += [f"A={folders / 'A'}", f"B={folders / 'maps'}", "--output", str(folders / "1")]
    assert main([*line, "--probabilities", "B"]) == 0
    groups = {"core": 2, "a_rim": 1}
    masks = {"A": folders / "A", "B": folders / "B"}
    expected = compare(folders / "truth", masks, output=folders / "2", labels=groups, name="data")
    arrays = compare(
        truths(),
        {"A": moved(truths(), 1), "B": maps},
        output=folders / "3",
        spacing=SPACING,
        labels=groups,
        probabilities=["B"],
    )
    files = StoredStudy.opened(Store(str(folders / "1"))).rows(paths.CASES)
    for found in (files, arrays.cases):
        columns = found.columns.difference(["train_id", "eval_id", "task"])
        assert found[columns].equals(expected.cases[columns])
    mine = [rows[rows["model"] == "B"]["eval_id"].iloc[0] for rows in (files, expected.cases)]
    assert mine[0] != mine[1]
    capsys.readouterr()
    for more, said in (
        (["--probabilities", "C"], "probabilities: there is no method 'C'; there are A, B"),
        (["--probabilities", "A", "B"], "c0.nii.gz: has 1 channels; probabilities of 2 structures"),
        (
            ["--probabilities", "B", "--labels-of", "B:core=3", "B:a_rim=4"],
            "labels of B: probabilities have no values; leave one of the two out",
        ),
    ):
        assert main([*line, *more]) == 2
        assert said in capsys.readouterr().err


def test_arrays_of_probabilities_are_numbers_with_or_without_channels() -> None:
    flat = np.array([0.4, 0.9]).reshape(2, 1, 1)
    assert read_probabilities(flat, "A, c0", UNIT, 1).values.ravel().tolist() == [0, 1]
    for wrong in (np.zeros((2, 2)), np.zeros((2, 1, 1), complex), np.zeros((2, 1, 0, 1))):
        with pytest.raises(DataError, match=r"A, c0: probabilities \[X, Y, Z, C\] or"):
            read_probabilities(wrong, "A, c0", UNIT, 1)
