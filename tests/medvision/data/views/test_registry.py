"""Every way of showing a case is whole: a name, its settings and its view."""

from __future__ import annotations

from typing import get_args

from medvision.data.settings import PROTOCOL_SETTINGS, Protocol
from medvision.data.views.registry import VIEWS


def test_every_protocol_has_a_view_and_says_which_settings_it_reads() -> None:
    assert set(VIEWS) == set(PROTOCOL_SETTINGS) == set(get_args(Protocol))
