"""Is the block used? `medvision reliance --study S`: finished trials are scored again with their
language-model block knocked out, without training.

The scores are committed like any trial's, and the report's table `reliance` tests them against
those of the whole networks. What is there already is not scored again. Exit codes: 0 done, 2 wrong
flags, or a study that has nothing to knock out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from medvision.errors import DataError
from record.command import begin_command
from record.lock import StudyLockedError, study_lock
from record.reliance import KNOCK_OUTS
from record.store import Store, StoreError
from record.study import StoredStudy
from record.terminal import say


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; see `--help`."""
    begin_command()
    options = _parser().parse_args(argv)
    store = Store(options.study)
    try:
        StoredStudy.opened(store)  # before torch is imported, and anything is written there
        from medvision.assets import AssetError
        from medvision.device import usable_device
        from medvision.llm import BlockError
        from orchestrator.comparing.shown import shown_progress
        from orchestrator.trial.knocked_out import score_knocked_out, wanted_of
        from reports.build import build_report

        try:
            device = usable_device(options.device)
            with study_lock(store):
                study = StoredStudy.opened(store)
                wanted, lines = wanted_of(study, options.knock_outs, options.models)
                with shown_progress(len(wanted)) as on_training:
                    made = score_knocked_out(study, wanted, device, on_training)
            report = build_report(StoredStudy.opened(store))
        except (BlockError, AssetError) as error:
            raise DataError(str(error)) from error
    except (DataError, StoreError, StudyLockedError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 2
    for line in lines:
        say(f"note: {line}")
    say(f"{len(wanted)} trainings without their block: {made} scores made")
    say("\n".join(f"{store.uri}/report/{name}" for name in report.files if "reliance" in name))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medvision reliance",
        description="Score finished trials again with their language-model block knocked out.",
        epilog="ways to knock out:\n"
        + "\n".join(f"  {name:9s} lacks {text}" for name, text in KNOCK_OUTS.items())
        + "\nexample: medvision reliance --study runs/controls --models MedVisionLlama",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--study", required=True, metavar="S", help="folder or fsspec URI: <storage>/<name>")
    add("--models", nargs="+", default=[], metavar="NAME", help="by default all with a block")
    add(
        "--knock-outs", nargs="+", default=list(KNOCK_OUTS), choices=list(KNOCK_OUTS), metavar="HOW"
    )
    add("--device", default="cpu", metavar="D", help="to predict on, such as cuda:0")
    return parser


if __name__ == "__main__":
    sys.exit(main())
