"""A training that is there already is scored again, by other definitions of the metrics or with
another way to segment a case: nothing is trained.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medvision.device import make_deterministic
from medvision.training.checkpoint import load_checkpoint, save_checkpoint
from medvision.training.ranks import Ranks
from medvision.training.watch import Watch
from orchestrator.spec.other_tools import NnUNetV2Settings
from orchestrator.trial.choosing import inference_of, keep_choice
from orchestrator.trial.context import TrialContext
from orchestrator.trial.scoring import score_kept_masks, scores_of_all
from record import paths
from record.damage import read_committed
from record.masks import pack_masks
from record.schema import Commit
from record.store import DamagedError, StoreError

FURTHER = (paths.ARRAYS, paths.INFERENCE)  # what some leave
KINDS = (paths.HISTORY, paths.WEIGHTS, paths.MASKS)  # what every training leaves


def rescored(
    context: TrialContext, ranks: Ranks, watch: Watch
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]] | None:
    """Rows, files and cost of an earlier evaluation of the same training with other definitions:
    its kept masks are scored, or, where cases are segmented in another way now, its kept weights
    make new ones. None, with a warning, where what was kept is damaged: it is trained anew then.
    """
    earlier = kept = None
    try:
        earlier, kept = _kept(context, ranks)
    except DamagedError as error:
        message = f"{context.job.title} is trained anew, because it cannot be scored again: {error}"
        warnings.warn(message, stacklevel=2)
    if ranks.any(earlier is None):
        return None
    assert earlier is not None  # noqa: S101  # on no rank
    own = not isinstance(context.model_spec, NnUNetV2Settings)  # which segments in its own way
    if own and _way(earlier.identity.eval) != _way(context.identity["eval"]):
        rows, files = _predicted_again(context, earlier, ranks, watch)
        return rows, files, earlier.cost.to_json()
    rows = score_kept_masks(context, kept[paths.MASKS], watch) if kept else []
    return rows, _files_of(earlier), earlier.cost.to_json()


def _kept(context: TrialContext, ranks: Ranks) -> tuple[Commit, dict[str, bytes]]:
    """The marker of the evaluation to score again, and on rank 0 what its files hold: all of them,
    because the new commit's checksums are of that.

    Raises:
        DamagedError: one is not what was committed.
        StoreError: there is no such evaluation any more.
    """
    name = paths.commit(str(context.job.rescore_of))
    earlier = context.store.load(name, Commit)
    if earlier is None:
        raise StoreError(f"{context.store.path(name)}: is gone; run the same command again")
    kinds = () if ranks.rank else tuple(_files_of(earlier))
    return earlier, {kind: read_committed(context.store, earlier, kind) for kind in kinds}


def _files_of(marker: Commit) -> dict[str, str]:
    return {kind: file for kind, file in marker.files.items() if kind in (*KINDS, *FURTHER)}


def _way(scoring: Mapping[str, Any]) -> Any:
    """How an evaluation segments a case, and what of it was chosen; None each by default."""
    return scoring["scoring"].get("inference"), scoring["scoring"].get("choose")


def _predicted_again(
    context: TrialContext, earlier: Commit, ranks: Ranks, watch: Watch
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Rows and files of the kept weights, which say from now on how they are used."""
    make_deterministic()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "weights.safetensors")
        path.write_bytes(read_committed(context.store, earlier, paths.WEIGHTS))
        # the code of a custom model is the study's own, which trained it
        model, about = load_checkpoint(path, device=ranks.device, trust_code=True)
    inference = inference_of(context, model, ranks, watch)
    scored = scores_of_all(context, model, ranks, watch, inference)
    files = {kind: file for kind, file in _files_of(earlier).items() if kind != paths.INFERENCE}
    if ranks.rank:
        return [], {}
    for kind in (paths.WEIGHTS, paths.MASKS):
        files[kind] = paths.attempt_file(context.folder, kind)
    files |= keep_choice(context, inference)
    about = about.model_copy(update={"inference": inference})
    context.store.write(files[paths.WEIGHTS], save_checkpoint(model, about))
    context.store.write(files[paths.MASKS], pack_masks({one.case: one.mask for one in scored}))
    return [row for case in scored for row in case.rows], files
