"""How labels are recognised."""

from __future__ import annotations

from collections.abc import Iterable


def find_label(label: str, known: Iterable[str]) -> str | None:
    """The known label that is meant, None without one; case and `-`/`_` are forgiven."""
    wanted = fold(label)
    return next((name for name in known if fold(name) == wanted), None)


def fold(label: str) -> str:
    """A label without what is forgiven."""
    return label.lower().replace("-", "").replace("_", "").replace(" ", "")
