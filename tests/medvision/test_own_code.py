"""Python of one's own is read with what it imports, is imported from those texts only, and says in
one line what is wrong with it.
"""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from medvision.own_code import OwnCodeError, digest, loaded, read_files, where


def write(folder: Path, paths: dict[str, str] | None = None, **files: str) -> Path:
    for name, text in ((paths or {}) | files).items():
        path = folder / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_a_file_brings_those_that_it_imports_and_no_others(tmp_path: Path) -> None:
    write(
        tmp_path,
        own_net="import math\nfrom own_parts import half\ndef net(): return half(math.pi)\n",
        own_parts="def half(x):\n    import own_later\n    return x / own_later.TWO\n",
        own_later="TWO = 2\n",
        own_neighbour="raise SystemExit('nobody asked for it')\n",
        medvision="raise SystemExit('the package is meant')\n",
    )
    files = read_files(tmp_path, "own_net:net")
    assert list(files) == ["own_later.py", "own_net.py", "own_parts.py"]
    assert loaded("own_net:net", files)() == pytest.approx(1.5708, abs=1e-4)


def test_a_folder_travels_whole_with_relative_imports(tmp_path: Path) -> None:
    unet = "from . import parts\nfrom .deep.er import B\ndef net(): return parts.A + B\n"
    write(
        tmp_path,
        {"own_nets/unet": unet, "own_nets/parts": "A = 1\n", "own_nets/deep/er": "B = 2\n"},
    )
    files = read_files(tmp_path, "own_nets.unet:net")
    assert list(files) == ["own_nets/deep/er.py", "own_nets/parts.py", "own_nets/unet.py"]
    assert loaded("own_nets.unet:net", files)() == 3
    late = "from own_nets import FIRST\n"
    write(tmp_path, {"own_nets/__init__": "FIRST = 7\n", "own_nets/late": late})
    again = read_files(tmp_path, "own_nets.late:FIRST")
    with pytest.raises(OwnCodeError, match="no class or function FIRST"):
        loaded("own_nets.late:FIRST", again)


def test_what_runs_is_the_text_and_not_a_file_that_changed_meanwhile(tmp_path: Path) -> None:
    old = read_files(write(tmp_path, own_x="def f(): return 'old'\n"), "own_x:f")
    kept = loaded("own_x:f", old)
    new = read_files(write(tmp_path, own_x="def f(): return 'new'\n"), "own_x:f")
    assert digest(old) != digest(new)
    assert loaded("own_x:f", new)() == "new"
    assert (kept(), loaded("own_x:f", old)()) == ("old", "old")


def test_the_digest_is_that_of_names_and_texts() -> None:
    """By hand: sha256 of the JSON text {"a.py": "x = 1\\n"}."""
    command = 'import hashlib; print(hashlib.sha256(b\'{"a.py": "x = 1\\\\n"}\').hexdigest())'
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert digest({"a.py": "x = 1\n"}) == done.stdout.strip()
    assert digest({"b.py": "x = 1\n"}) != digest({"a.py": "x = 1\n"})


@pytest.mark.parametrize(
    ("files", "name", "expected"),
    [
        ({}, "own_net:Net", "has no own_net.py"),
        ({"own_nett": ""}, "own_net:Net", "did you mean own_nett?"),
        ({"random": ""}, "random:Net", "the name random is taken by Python's own library"),
        ({"numpy": ""}, "numpy:Net", "the name numpy is taken by an installed package"),
        ({"own_net": "def f(:\n"}, "own_net:Net", "own_net.py:1: is no Python"),
        ({"own_net": "x = '" + "y" * 1_100_000 + "'"}, "own_net:Net", "more than the 1,000,000"),
        ({"own_nets/a": ""}, "own_nets.b:Net", "has no own_nets/b.py"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    files: dict[str, str], name: str, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(OwnCodeError) as caught:
        read_files(write(tmp_path, files), name)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_what_cannot_be_imported_is_one_line_with_its_place(tmp_path: Path) -> None:
    write(
        tmp_path, own_bad="import own_worse\n", own_worse="\n\n1 / 0\n", own_few="class Unet: 1\n"
    )
    with pytest.raises(OwnCodeError) as caught:
        loaded("own_bad:f", read_files(tmp_path, "own_bad:f"))
    assert str(caught.value) == (
        "own_bad:f: cannot be imported: ZeroDivisionError: division by zero (own_worse.py:3)"
    )
    with pytest.raises(OwnCodeError, match="no class or function UNet; did you mean Unet"):
        loaded("own_few:UNet", read_files(tmp_path, "own_few:UNet"))


def test_a_traceback_shows_the_line(tmp_path: Path) -> None:
    files = read_files(write(tmp_path, own_y="def f():\n    return 1 / 0  # here\n"), "own_y:f")
    with pytest.raises(ZeroDivisionError) as caught:
        loaded("own_y:f", files)()
    assert "return 1 / 0  # here" in "".join(traceback.format_exception(caught.value))
    assert where(caught.value) == "ZeroDivisionError: division by zero (own_y.py:2)"
