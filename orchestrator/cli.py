"""`medvision COMMAND ...`: the same commands as the modules', under one name, from anywhere."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from record.command import begin_command
from record.terminal import say

SPECS = (
    Path(__file__).resolve().parents[1] / "ablations"
)  # next to the packages, in a checkout and in a wheel
COMMANDS = {
    "run": ("orchestrator.run", "run a study, or what of it is not finished"),
    "compare": ("orchestrator.compare", "masks of any tools against the truth, and the report"),
    "score": ("orchestrator.score", "another tool's masks as trials of a study"),
    "reliance": ("orchestrator.reliance", "is the block used? finished trials without their block"),
    "splits": ("orchestrator.splits", "a study's folds for other tools"),
    "merge": ("orchestrator.merge", "studies of one spec that were run at different places"),
    "publish": ("orchestrator.publish", "a study's numbers as a small folder, and back"),
    "design": ("orchestrator.design", "the folds and seeds that a study needs, and their cost"),
    "status": ("orchestrator.status", "the state of a study"),
    "view": ("orchestrator.view", "a study's cases in a browser, with truth and masks"),
    "track": ("orchestrator.track", "a study's MLflow experiment again, from its results"),
    "report": ("reports.build", "a study's tables and figures again, from its results"),
    "data": ("medvision.data.__main__", "fetch and check data"),
    "models": ("medvision.models.__main__", "the models with their sizes"),
    "predict": ("medvision.predict", "segment a new scan with a trained model"),
    "assets": ("medvision.assets", "fetch the small real assets"),
    "official": ("orchestrator.official", "one model on one task, with the official code's flags"),
}
OF_SPECS = ("run", "design")  # they take the name of a shipped spec
SHELLS = ("bash", "zsh")


def main(argv: Sequence[str] | None = None) -> int:
    """Pass the arguments on to a command's own `main`; 2 for an unknown command."""
    begin_command()
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        say(_help())
        return 0
    if command == "completion":
        if rest in ([shell] for shell in SHELLS):
            say(completion(rest[0]))
            return 0
        say(f"error: give one shell: medvision completion {'|'.join(SHELLS)}", file=sys.stderr)
        return 2
    if command not in COMMANDS:
        say(
            f"error: no command {command!r}{_meant(command)}; there are {', '.join(COMMANDS)}, "
            "completion",
            file=sys.stderr,
        )
        return 2
    if command in OF_SPECS:
        rest = [_shipped(part) for part in rest]
    code: int = importlib.import_module(COMMANDS[command][0]).main(rest)
    return code


def completion(shell: str) -> str:
    """A script that completes commands, their flags, the shipped specs and files; static, so that
    no Tab starts Python.
    """
    cases = [f"        {name}) words='{' '.join(_words(name))}';;" for name in COMMANDS]
    lines = [
        "# medvision completion: source this, for example from ~/.bashrc",
        *(["autoload -U +X bashcompinit && bashcompinit"] if shell == "zsh" else []),
        "_medvision() {",
        "    local words",
        "    if [ $COMP_CWORD -eq 1 ]; then",
        f"        COMPREPLY=($(compgen -W '{' '.join([*COMMANDS, 'completion'])}' -- \"$2\")); "
        "return",
        "    fi",
        '    case "${COMP_WORDS[1]}" in',
        *cases,
        f"        completion) words='{' '.join(SHELLS)}';;",
        "    esac",
        '    COMPREPLY=($(compgen -W "$words" -- "$2") $(compgen -f -- "$2"))',
        "}",
        "complete -F _medvision medvision",
    ]
    return "\n".join(lines)


def _words(command: str) -> list[str]:
    """A command's flags, read from its help, and the shipped specs for those that take one."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return sorted(
        {
            *re.findall(r"--[a-z][a-z_-]*[a-z]", shown.getvalue()),
            *(_spec_names() if command in OF_SPECS else ()),
        }
    )


def _meant(command: str) -> str:
    known = [*COMMANDS, "completion"]
    near = difflib.get_close_matches(command.lower(), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _shipped(argument: str) -> str:
    """`quickstart` is the spec of that name that comes with the package, unless such a file is
    here.
    """
    return (
        str(SPECS / f"{argument}.yaml")
        if argument in _spec_names() and not Path(argument).exists()
        else argument
    )


def _spec_names() -> list[str]:
    return sorted(path.stem for path in SPECS.glob("*.yaml"))


def _help() -> str:
    lines = ["usage: medvision COMMAND ... (medvision COMMAND --help says more)", ""]
    lines += [f"  {name:10s} {text}" for name, (_, text) in COMMANDS.items()]
    lines += [f"  {'completion':10s} print a completion script for {' or '.join(SHELLS)}", ""]
    lines += [
        "specs that come with it, for example `medvision run quickstart`: "
        f"{', '.join(_spec_names())}"
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
