"""The paper's study, planned once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.reports.sections.paper_studies import planned


@pytest.fixture(scope="module")
def full() -> tuple[dict[str, Any], dict[str, Any]]:
    return planned()
