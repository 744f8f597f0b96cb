"""`medvision COMMAND ...`: the same commands as the modules', under one name, from anywhere."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from record.terminal import plain_output

SPECS = (
    Path(__file__).resolve().parents[1] / "ablations"
)  # beside the packages, in a checkout and in a wheel
COMMANDS = {
    "run": ("orchestrator.run", "run a study, or what of it is not finished"),
    "status": ("orchestrator.status", "how a study stands"),
    "track": ("orchestrator.track", "a study's MLflow experiment again, from its results"),
    "report": ("reports.build", "a study's tables and figures again, from its results"),
    "data": ("medvision.data.__main__", "fetch and check data"),
    "models": ("medvision.models.__main__", "the models with their sizes"),
    "predict": ("medvision.predict", "segment a new scan with a trained model"),
    "assets": ("medvision.assets", "fetch the small real assets"),
    "official": ("orchestrator.official", "one model on one task, with the official code's flags"),
}
SHELLS = ("bash", "zsh")


def main(argv: Sequence[str] | None = None) -> int:
    """Hand the arguments to a command's own `main`; 2 for an unknown command."""
    plain_output()
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(_help())
        return 0
    if command == "completion":
        if rest in ([shell] for shell in SHELLS):
            print(completion(rest[0]))
            return 0
        print(f"error: give one shell: medvision completion {'|'.join(SHELLS)}", file=sys.stderr)
        return 2
    if command not in COMMANDS:
        print(
            f"error: no command {command!r}; there are {', '.join(COMMANDS)}, completion",
            file=sys.stderr,
        )
        return 2
    if command == "run":
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
    """A command's flags, read from its help, and for `run` the shipped specs."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help"])
    return sorted(
        {
            *re.findall(r"--[a-z][a-z_-]*[a-z]", shown.getvalue()),
            *(_spec_names() if command == "run" else ()),
        }
    )


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
