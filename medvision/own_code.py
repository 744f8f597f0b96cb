"""Python of a researcher's own, in a file next to the spec: a model's class, a metric's function.

It is read as text, counts in ids by the hash of that text, travels inside the study to the machines
that train, and is imported from that text only: what runs is what the id says, wherever it runs.
Imports no torch.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationInfo, model_validator

from medvision.settings import NotInIds, Settings

NAME = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"  # of something in a file: `file:Name`
MAX_BYTES = 1_000_000  # of all files together: they stand in the study and in every checkpoint
_MARK = "own-code-"  # of the places in tracebacks
Files = Mapping[str, str]


class OwnCodeError(ValueError):
    """Code of one's own that cannot be found, imported or called; one line."""


class OwnCode(Settings):
    """Settings of which one, `names_code`, names code of one's own: its texts travel with them, and
    their hash counts in ids. Where a spec is read, the texts are, too (`with_files`).
    """

    names_code: ClassVar[str]
    files: Annotated[dict[str, str], NotInIds("counted by sha256")] = Field(
        default={},
        description="texts of the file and of those next to it that it imports; read "
        "by the program",
    )
    sha256: str = Field(default="", description="hash of `files`; written by the program")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, values: Any, info: ValidationInfo) -> Any:
        return with_files(values, cls.names_code, info.context)

    @model_validator(mode="after")
    def _hash_is_theirs(self) -> Self:
        if self.sha256 != digest(self.files):
            raise ValueError("sha256 is not that of `files`: leave both out, they are written")
        return self


def read_files(folder: Path, name: str) -> dict[str, str]:
    """The texts of a module and of all modules of the same folder that it imports, by path.

    Args:
        folder: where the module lies: a file `NAME.py`, or a folder `NAME` of files.
        name: `module:callable`.

    Raises:
        OwnCodeError: there is no such file, it is no Python, its name is taken, or the files are
            too large to travel.
    """
    module = name.partition(":")[0]
    top = module.partition(".")[0]
    if taken := _elsewhere(top, folder):
        raise OwnCodeError(
            f"{name}: the name {top} is taken by {taken}: rename the file in {folder}"
        )
    files: dict[str, str] = {}
    waiting = [top]
    while waiting:
        found = {
            file.relative_to(folder).as_posix(): _text(file)
            for file in _parts(folder, waiting.pop())
            if file.relative_to(folder).as_posix() not in files
        }
        files |= found
        for file, text in found.items():
            waiting += [
                other
                for other in _imported(folder / file, text)
                if _parts(folder, other) and not _elsewhere(other, folder)
            ]
    if _file_of(module, files) is None:
        near = difflib.get_close_matches(top, [file.stem for file in folder.glob("*.py")], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise OwnCodeError(f"{name}: {folder} has no {module.replace('.', '/')}.py{hint}")
    if (size := sum(map(len, files.values()))) > MAX_BYTES:
        raise OwnCodeError(
            f"{name}: its files have {size:,} characters, more than the {MAX_BYTES:,} that travel "
            "with a study; keep data out of them"
        )
    return dict(sorted(files.items()))


def digest(files: Files) -> str:
    """sha256 of files, as ids have it."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()


def with_files(values: Any, key: str, context: Mapping[str, Any] | None) -> Any:
    """Settings before they are validated, with the texts (`files`) and their hash (`sha256`) of
    what they name under `key`; as they are where they name nothing that could be read.

    Args:
        context: of the validation; `folder` is the spec's, without it the current one is taken.

    Raises:
        OwnCodeError: as `read_files`.
    """
    name = values.get(key) if isinstance(values, dict) else None
    if not isinstance(name, str) or ":" not in name:
        return values  # has an error of its own
    files = values.get("files") or read_files(Path((context or {}).get("folder", ".")), name)
    found = digest(files) if isinstance(files, dict) else ""
    return {"sha256": found, **values, "files": files}


def loaded(name: str, files: Files) -> Any:
    """The class or function of a name, imported out of the files' texts.

    Raises:
        OwnCodeError: the import fails, or what it gives has no such name.
    """
    return _loaded(name, tuple(sorted(files.items())))


def arguments(
    name: str, function: Any, given: Mapping[str, Any], required: Iterable[str] = ()
) -> dict[str, Any]:
    """The arguments that a call by keywords takes: all that are given, in so far as they are
    accepted.

    Args:
        given: arguments that the function may take or not.
        required: those among them that it has to take.

    Raises:
        OwnCodeError: it takes a required one not.
    """
    known = inspect.signature(function).parameters.values()
    named = {one.name for one in known if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)}
    every = any(one.kind is one.VAR_KEYWORD for one in known)
    if lacking := [key for key in required if key not in named and not every]:
        raise OwnCodeError(f"{name}: must take {' and '.join(lacking)} as arguments")
    return {key: value for key, value in given.items() if key in named or key in required}


def check_call(name: str, function: Any, given: Mapping[str, Any]) -> None:
    """Whether a function can be called with these keywords.

    Raises:
        OwnCodeError: it takes other ones.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(**given)
    except TypeError as error:
        known = ", ".join(signature.parameters)
        raise OwnCodeError(f"{name}: {error}; it takes {known or 'no arguments'}") from error


def where(error: BaseException) -> str:
    """An error of somebody's code in one line: what it is, and the last line of theirs."""
    trace, place = error.__traceback__, ""
    while trace:
        file = trace.tb_frame.f_code.co_filename
        if file.startswith(_MARK):
            place = f" ({file.partition('/')[2]}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{place}"


@functools.lru_cache(maxsize=64)
def _loaded(name: str, pairs: tuple[tuple[str, str], ...]) -> Any:
    module, _, attribute = name.partition(":")
    files = dict(pairs)
    _make_way(files)
    try:
        found = importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise OwnCodeError(f"{name}: cannot be imported: {where(error)}") from error
    if not callable(value := getattr(found, attribute, None)):
        names = [key for key, one in vars(found).items() if callable(one) and key[0] != "_"]
        near = difflib.get_close_matches(attribute, names, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise OwnCodeError(f"{name}: {module} has no class or function {attribute}{hint}")
    return value


def _make_way(files: Files) -> None:
    """Let imports find these files, and no longer others of the same names; what was imported from
    those stays as it is for whoever holds it. A file that a model and a metric share stays.
    """
    tops = {file.removesuffix(".py").partition("/")[0] for file in files}
    kept: list[_Texts] = []
    for one in [one for one in sys.meta_path if isinstance(one, _Texts)]:
        if one.tops & tops and any(
            one.files.get(file, text) != text for file, text in files.items()
        ):
            sys.meta_path.remove(one)
        else:
            kept.append(one)
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in tops:
            loader = getattr(getattr(module, "__spec__", None), "loader", None)
            if loader not in kept:
                del sys.modules[name]
    sys.meta_path.insert(0, _Texts(files, tops))


class _Texts(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):  # type: ignore[misc]
    """Finds and loads the modules of some texts; tracebacks show their lines."""

    def __init__(self, files: Files, tops: set[str]) -> None:
        self.files, self.tops, self.mark = files, tops, f"{_MARK}{digest(files)[:8]}/"

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        del path, target
        file = _file_of(fullname, self.files)
        if file is not None:
            package = file.endswith("/__init__.py")
            return importlib.util.spec_from_loader(fullname, self, is_package=package)
        folder = fullname.replace(".", "/") + "/"
        if any(name.startswith(folder) for name in self.files):  # without an __init__.py
            return importlib.machinery.ModuleSpec(fullname, None, is_package=True)
        return None

    def get_filename(self, fullname: str) -> str:
        return self.mark + str(_file_of(fullname, self.files))

    def get_data(self, path: str) -> bytes:
        return self.files[str(path).removeprefix(self.mark)].encode()


def _file_of(module: str, files: Files) -> str | None:
    file = module.replace(".", "/")
    return next((name for name in (f"{file}/__init__.py", f"{file}.py") if name in files), None)


def _parts(folder: Path, top: str) -> list[Path]:
    """The files of a module of the folder: a file, or all of a folder."""
    if (file := folder / f"{top}.py").is_file():
        return [file]
    inside = folder / top
    return sorted(inside.rglob("*.py")) if inside.is_dir() else []


def _elsewhere(top: str, folder: Path) -> str:
    """Who else has a module of that name, "" where nobody has."""
    if top in sys.stdlib_module_names:
        return "Python's own library"
    here = folder.resolve()
    others = [path for path in sys.path if Path(path or ".").resolve() != here]
    found = importlib.machinery.PathFinder.find_spec(top, others)
    # a folder without an __init__.py, such as `data`, is found in any place that has one
    return f"an installed package ({found.origin})" if found and found.origin else ""


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise OwnCodeError(f"{file}: cannot be read: {error}") from error


def _imported(file: Path, text: str) -> Iterator[str]:
    """The top names that a text imports, wherever in it."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        reason = getattr(error, "msg", None) or error
        raise OwnCodeError(f"{file}:{line}: is no Python: {reason}") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module.partition(".")[0]
