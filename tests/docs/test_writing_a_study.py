"""docs/writing-a-study.md says what the program does: plans, messages and the least numbers of
cases.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from orchestrator.planning.inputs import InputError, gathered, resolved
from orchestrator.run import main
from orchestrator.spec.yaml_file import SpecError, load_spec
from reports.statistics import adjust, paired_wilcoxon

ALPHA = 0.05


@pytest.fixture(scope="module")
def guide(documents: list[Any]) -> Any:
    return next(document for document in documents if document.name == "docs/writing-a-study.md")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isolated_cache: Path) -> None:
    """A machine that has read no data and no language model yet."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEDVISION_DATA", raising=False)


def unbroken(text: str) -> list[str]:
    """Lines of a block, with those that begin with two spaces put behind the line before."""
    return re.sub(r"\n  (?=\S)", " ", text).splitlines()


def behind(guide: Any, block: Any) -> Any:
    """The block that follows another one."""
    return guide.blocks[guide.blocks.index(block) + 1]


def test_the_commands_print_the_plans_that_are_shown(
    guide: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = {
        re.match(r"name: (\S+)", block.text)[1]: block for block in guide.blocks if is_study(block)
    }
    planned = [block for block in guide.blocks if block.info == "" and "--dry-run" in block.text]
    assert len(planned) == 2
    for block in planned:
        command = block.text.split()
        name = command[3].removesuffix(".yaml")
        Path(command[3]).write_text(specs[name].text)
        assert main(command[3:]) == 0
        printed = capsys.readouterr().out.splitlines()
        shown = behind(guide, block).text.splitlines()
        assert [line for line in shown if line not in printed] == [], "\n".join(printed)


def is_study(block: Any) -> bool:
    return block.info == "yaml" and block.text.startswith("name: ")


def test_the_numbers_of_trials_in_the_text_are_the_plans(
    guide: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    told = re.findall(r"That is ([\dx ]+) = (\d+) trials", guide.prose)
    block = next(block for block in guide.blocks if is_study(block) and "few-cases" in block.text)
    Path("study.yaml").write_text(block.text)
    spec = load_spec("study.yaml")
    axes = (spec.models, spec.tasks, spec.fractions, range(spec.folds), spec.seeds)
    assert told == [(" x ".join(str(len(axis)) for axis in axes), "270")]
    assert main(["study.yaml", "--dry-run"]) == 0
    assert f"{told[0][1]} trials" in capsys.readouterr().out


def test_the_mistakes_give_the_messages_that_are_shown(guide: Any) -> None:
    wrong = [block for block in guide.blocks if block.info == "yaml mistake"]
    assert len(wrong) == 4
    for block in wrong:
        Path("study.yaml").write_text(block.text)
        with pytest.raises(SpecError) as raised:
            load_spec("study.yaml")
        assert_shown(unbroken(behind(guide, block).text), raised.value.mistakes)


def assert_shown(shown: list[str], messages: list[str]) -> None:
    """Every message is shown, and nothing else; `...` stands for any text."""
    assert len(shown) == len(messages), "\n".join(messages)
    for line, message in zip(shown, messages, strict=True):
        pattern = ".+".join(re.escape(part) for part in line.split("..."))
        assert re.fullmatch(pattern, message), f"shown: {line}\nreal:  {message}"


def test_what_the_data_tell_is_told_as_shown(guide: Any, spheres: Path, tmp_path: Path) -> None:
    shown = unbroken(guide.blocks[-1].text)
    data = tmp_path / "data"
    messages = told(data)
    shutil.copytree(spheres / "Task99_Spheres", data / "MyTask")
    label = data / "MyTask" / "labelsTr" / "case_03.nii.gz"
    label.rename(data / "kept")
    messages += told(data)
    (data / "kept").rename(label)
    rows = [f"case_{number:02d},P{number}" for number in range(13)]
    (data / "MyTask" / "patients.csv").write_text("\n".join(["case,patient", *rows]))
    messages += told(data, "splits.group_file=patients.csv")
    messages += told(data, r"splits.group_pattern='^(P\d+)_'")
    messages += told(data, "folds=20")
    messages += told(data, "data.label_groups=each")
    messages += told(data, "data.protocol=corrected")
    assert shown == [f"error: {message.replace(str(data), '/data')}" for message in messages]


def told(data: Path, *settings: str) -> list[str]:
    """What a run of a study on `MyTask` would refuse."""
    Path("study.yaml").write_text(
        f"name: s\nmodels: [ViT_Baseline]\ntasks: [MyTask]\ndata: {{root: '{data}'}}\n"
    )
    spec = load_spec("study.yaml", settings)
    with pytest.raises(InputError) as raised:
        gathered(resolved(spec))
    return str(raised.value).splitlines()


def test_the_least_numbers_of_cases_are_those_of_the_test(guide: Any) -> None:
    rows = re.findall(r"^\| (\d+) \| (\d+) \|$", guide.prose, flags=re.M)
    assert len(rows) >= 4
    for tests, least in ((int(tests), int(least)) for tests, least in rows):
        assert smallest(least, tests) < ALPHA <= smallest(least - 1, tests), (
            f"{tests} tests, n {least}"
        )


def smallest(cases: int, tests: int) -> float:
    """The smallest p after Holm's correction of that many tests over that many cases."""
    p = paired_wilcoxon([float(case) for case in range(1, cases + 1)], [0.0] * cases).p
    return float(adjust([p, *[1.0] * (tests - 1)], "holm")[0])
