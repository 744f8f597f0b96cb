"""What commands that score masks show while they run, and when masks are wrong."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from record.terminal import say


@contextlib.contextmanager
def shown_progress(masks: int) -> Iterator[Callable[[], object]]:
    """A bar of so many masks on stderr; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        scoring = bar.add_task("scoring masks", total=masks)
        yield lambda: bar.advance(scoring)


def print_problems(error: Exception, most: int) -> None:
    """An error on stderr; of wrong masks a line each, so many at most."""
    problems = getattr(error, "problems", None)
    if problems is None:
        say(f"error: {error}", file=sys.stderr)
        return
    say(f"error: {len(problems)} masks cannot be compared:", file=sys.stderr)
    say("\n".join(problems[:most]), file=sys.stderr)
    if (more := len(problems) - most) > 0:
        say(f"and {more} more (--problems {len(problems)} lists all)", file=sys.stderr)
