"""Ray's dashboard without the module that looks up the cloud's metadata."""

from __future__ import annotations

import logging
import os

USAGE = "UsageStatsHead"


def modules_option() -> list[str]:
    """What a dashboard that this process starts is given, so that it asks no cloud where it runs.

    Ray's dashboard sends requests to 169.254.169.254 and metadata.google.internal when it starts,
    even where usage statistics are off (`ray.dashboard.modules.usage_stats`, Ray 2.60), and has no
    setting for it. Ray itself starts dashboards with a part of their modules, and so do we, with
    all but that one; a user who sets RAY_USAGE_STATS_ENABLED=1 has it, too.
    `tests/offline` notices when a new Ray asks all the same.
    """
    if os.environ.get("RAY_USAGE_STATS_ENABLED") != "0":
        return []
    return [f"--modules-to-load={','.join(_modules())}"]


def _modules() -> list[str]:
    """The names of the dashboard's other modules."""
    from ray.dashboard import utils
    from ray.dashboard.subprocesses.module import SubprocessModule

    logging.getLogger(utils.__name__).setLevel(logging.WARNING)  # it lists them at level INFO
    kinds = (utils.DashboardHeadModule, SubprocessModule)
    names = {module.__name__ for kind in kinds for module in utils.get_all_modules(kind)}
    return sorted(names - {USAGE})
