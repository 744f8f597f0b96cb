"""Values and templates inside an HTML page: names of cases and models are foreign text."""

from __future__ import annotations

import json
from typing import Any

import jinja2
from markupsafe import Markup

_AS_CODE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def json_text(value: Any) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the element or begin
    another. NaN and infinities are no JSON.

    Raises:
        ValueError: the value holds one.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character, escaped in _AS_CODE.items():
        text = text.replace(character, escaped)
    return Markup(text)  # noqa: S704 - its markup is escaped above


def rendered(template: str, **values: Any) -> Markup:
    """A template of this package, filled; text is escaped, `Markup` is not."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("reports.render"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    return Markup(environment.get_template(template).render(**values))  # noqa: S704 - autoescaped
