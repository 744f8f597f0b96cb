"""A task that is not there is told with what may be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from medvision.data.readers.registry import read_task
from medvision.errors import DataError
from tests.conftest import write_task


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Task99_Sphere", "did you mean Task99_Spheres?"),
        ("Task04_Hipocampus", "did you mean Task04_Hippocampus?"),
        (
            "Task04_Hippocampus",
            "or `python -m medvision.data fetch Task04_Hippocampus` gets it; ROOT holds "
            "Task99_Spheres",
        ),
        ("Whatever", "to the folder that holds it; ROOT holds Task99_Spheres"),
    ],
)
def test_it_says_what_may_be_meant(tmp_path: Path, name: str, words: str) -> None:
    write_task(tmp_path, name="Task99_Spheres", cases=1)
    (tmp_path / "notes").mkdir()
    with pytest.raises(DataError, match="there is no folder") as refused:
        read_task(tmp_path, name)
    assert words.replace("ROOT", str(tmp_path)) in str(refused.value)


def test_without_a_data_folder_that_is_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="MEDVISION_DATA to the folder that holds"):
        read_task(tmp_path / "nowhere", "Whatever")
