"""Addresses without the passwords that they may carry."""

from __future__ import annotations

import re


def shown(uri: str) -> str:
    """An address without the user and password that it may carry, before the host or after a `?`.

    A password may hold `/` and `@`, so what stands between `//user:` and the last `@` counts as
    one.
    """
    bare = re.sub(r"//(?:[^/:@]*:\S*|[^/]*)@", "//***@", uri)
    return re.sub(r"((?:password|token|secret|key)[^=&]*=)[^&]*", r"\1***", bare)
