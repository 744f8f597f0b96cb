"""Lists of folds that go out to other tools and come back, and what they say of leaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from medvision.errors import DataError
from orchestrator.comparing.folds_out import KINDS, files_of, leaks, read_trained, roles_of
from record.schema import Split, SplitFold

CASES = ["a,1", 'b"2', "c3", "d4", "e5", "f6"]


def split(patients: dict[str, str] | None = None) -> Split:
    """Two folds of three cases each."""
    folds = [CASES[:3], CASES[3:]]
    return Split(
        cases=dict.fromkeys(CASES, "content"),
        patients=patients or {},
        folds=[
            SplitFold(test=test, order=[[case] for case in order])
            for test, order in zip(folds, folds[::-1], strict=True)
        ],
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "monai"])
@pytest.mark.parametrize("fraction", [0.5, 1.0])
def test_what_goes_out_comes_back(tmp_path: Path, kind: str, fraction: float) -> None:
    roles = roles_of(split(), [fraction])
    [(name, content)] = files_of(kind, "T", roles).items()  # type: ignore[arg-type]
    file = tmp_path / Path(name).name
    file.write_text(content)
    found = read_trained(file, fraction)
    assert found == [list(one.train) for one in roles[fraction]]
    assert all(found)
    assert not leaks(found, split(), "T", [])


@pytest.mark.parametrize("kind", ["json", "csv"])
def test_a_list_without_the_fraction_is_refused(tmp_path: Path, kind: str) -> None:
    [(name, content)] = files_of(kind, "T", roles_of(split(), [0.5])).items()  # type: ignore[arg-type]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=r"has no fraction 1, but 0\.5"):
        read_trained(tmp_path / name, 1.0)


def test_another_scan_of_a_tested_patient_is_a_leak() -> None:
    patients = dict(zip(CASES, ("p1", "p2", "p3", "p1", "p5", "p6"), strict=True))
    trained = [["d4", "e5"], ['b"2']]
    assert not leaks(trained, split(), "T", [])
    assert leaks(trained, split(patients), "T", []) == [
        "a,1: the tool trained on d4, of the same patient, in fold 0, which tests it"
    ]
    assert leaks([["c3"], []], split(patients), "T", []) == [
        "c3: the tool trained on it in fold 0, which tests it"
    ]


def test_a_list_of_other_names_checks_nothing_and_is_refused() -> None:
    with pytest.raises(DataError, match=r"names 1 cases that T .* liver_1; .*\{task\}"):
        leaks([["d4", "liver_1"], []], split(), "T", [])
    assert not leaks([["d4", "liver_1"], []], split(), "T", ["liver_1"])  # no case of the study
    with pytest.raises(DataError, match="has 1 folds, the study's of T 2"):
        leaks([["d4"]], split(), "T", [])
