"""Where everything of a study lies, relative to its folder: no other module spells these names.

`<storage>/<name>/` holds the driver's files (what is to be run, and where), what workers and
attempts write, and what is made for people:

    plan.json study.json manifest.json needs.json search.json lock.json      the driver's
    progress.json live.html         what trains now, and the page of the study, while it runs
    index.jsonl                     what the last report read of each trial: a memory, no record
    analysis.json trainings.json    what was frozen, and when trainings were planned
    external.json                   methods whose masks other tools made
    reliance.json                   trials that were scored again without their block
    spent.json spent_at.json        the time that attempts held GPUs, also those that failed, and
                                    where, of a merged study
    splits/TASK.json                which case plays which role
    claims/TRAIN_ID.json            the token of the attempt that may commit
    checkpoints/TRAIN_ID/           an unfinished training, and another tool's scratch folder
    trials/TRAIN_ID/TOKEN/          the files of one attempt
    commits/EVAL_ID.json            the marker: this evaluation is finished, these are its files
    failures/EVAL_ID/TOKEN.json     why an attempt failed
    damaged/EVAL_ID-NUMBER/         what was left of a damaged result when its trial was run again
    search/ID/NUMBER.json           a trial of a search
    data/TASK/dataset.json          the case list of the official command line
    design/design.md ...            what designs would see and cost (`orchestrator.design`)
    report/ logs/ tracking/ mlartifacts/     tables and figures, logs, MLflow's journal and files

A published study (`record.published`) has a table of all its trials and their markers instead of
commits/ and trials/: cases.parquet, history.parquet, published.json.
"""

from __future__ import annotations

PLAN = "plan.json"
STUDY = "study.json"
MANIFEST = "manifest.json"
NEEDS = "needs.json"
SEARCHES = "search.json"
LOCK = "lock.json"
PROGRESS = "progress.json"
LIVE = "live.html"
INDEX = "index.jsonl"
ANALYSIS = "analysis.json"
TRAININGS = "trainings.json"
EXTERNAL = "external.json"
RELIANCE = "reliance.json"
SPENT = "spent.json"
SPENT_AT = "spent_at.json"
PUBLISHED = "published.json"
SPEC = "spec.json"  # of MLflow's artifacts: the resolved spec out of study.json

SPLITS = "splits"
CLAIMS = "claims"
CHECKPOINTS = "checkpoints"
TRIALS = "trials"
COMMITS = "commits"
FAILURES = "failures"
DAMAGED = "damaged"
SEARCH = "search"
DATA = "data"
DESIGNS = "design"
REPORT = "report"
LOGS = "logs"
TRACKING = "tracking"
ARTIFACTS = "mlartifacts"

DRIVER_LOG = "driver.log"  # in LOGS
JOURNAL = "events.jsonl"  # in TRACKING
DELIVERED = "delivered.json"  # in TRACKING
HTML = "report.html"  # in REPORT
VIEWER = "viewer.html"  # in REPORT
SIGNIFICANCE = "significance.md"  # in REPORT

# An attempt's files by kind, as commit markers name them.
CASES, HISTORY, WEIGHTS, MASKS, ARRAYS = "cases", "history", "weights", "masks", "arrays"
INFERENCE = "inference"  # what was chosen on validation cases
_FILES = {
    HISTORY: "history.parquet",
    WEIGHTS: "weights.safetensors",
    MASKS: "masks.npz",
    ARRAYS: "arrays.npz",
    INFERENCE: "inference.json",
}
_JSON = ".json"


def split(task: str) -> str:
    """The split file of a task."""
    return f"{SPLITS}/{task}{_JSON}"


def claim(train_id: str) -> str:
    """Which attempt may commit results of this training."""
    return f"{CLAIMS}/{train_id}{_JSON}"


def checkpoints(train_id: str) -> str:
    """The folder of an unfinished training."""
    return f"{CHECKPOINTS}/{train_id}"


def checkpoint(train_id: str, kind: str) -> str:
    """An unfinished training's checkpoint; `kind`: world size, threads and device."""
    return f"{checkpoints(train_id)}/{kind}.pt"


def scratch(train_id: str) -> str:
    """What another tool's unfinished training leaves on a local disk."""
    return f"{checkpoints(train_id)}/scratch"


def trial(train_id: str) -> str:
    """The folder of a training's attempts."""
    return f"{TRIALS}/{train_id}"


def attempt(train_id: str, token: str) -> str:
    """The folder of one attempt."""
    return f"{trial(train_id)}/{token}"


def attempt_file(folder: str, kind: str) -> str:
    """A file of an attempt's folder: HISTORY, WEIGHTS, MASKS, ARRAYS or INFERENCE."""
    return f"{folder}/{_FILES[kind]}"


def cases(folder: str, eval_id: str) -> str:
    """The scores of one evaluation in its attempt's folder."""
    return f"{folder}/cases-{eval_id[:16]}.parquet"


def is_attempt(folder: str) -> bool:
    """Whether a folder of the study is that of an attempt."""
    return folder.startswith(f"{TRIALS}/") and folder.count("/") == 2


def commit(eval_id: str) -> str:
    """The commit marker of an evaluation."""
    return f"{COMMITS}/{eval_id}{_JSON}"


def failures(eval_id: str) -> str:
    """The folder of an evaluation's failed attempts."""
    return f"{FAILURES}/{eval_id}"


def failure(eval_id: str, token: str) -> str:
    """Why one attempt failed."""
    return f"{failures(eval_id)}/{token}{_JSON}"


def is_failure(place: str) -> bool:
    """Whether a file of the study says why an attempt failed."""
    folder, _, name = place.rpartition("/")
    inside = folder.startswith(f"{FAILURES}/") and folder.count("/") == 1
    return inside and not name.startswith(".")


def damaged(eval_id: str, number: int) -> str:
    """The folder of what was left of a damaged result."""
    return f"{DAMAGED}/{eval_id[:16]}-{number}"


def published_table(kind: str) -> str:
    """The CASES or HISTORY of all trials of a published study."""
    return f"{kind}.parquet"


def search(search_id: str) -> str:
    """The folder of a search's trials."""
    return f"{SEARCH}/{search_id}"


def search_trial(search_id: str, number: int) -> str:
    """The record of one trial of a search."""
    return f"{search(search_id)}/{number}{_JSON}"


def case_list(task: str) -> str:
    """The case list that the official command line makes of its flags."""
    return f"{DATA}/{task}/dataset.json"


def report(name: str) -> str:
    """A table or figure."""
    return f"{REPORT}/{name}"


def design(suffix: str) -> str:
    """The table of designs: `md`, `csv` or `tex`, or its figure: `png` or `pdf`."""
    return f"{DESIGNS}/design.{suffix}"


def trial_log(train_id: str) -> str:
    """A trial's log, a name in LOGS."""
    return f"{train_id}.log"


def stem(name: str) -> str:
    """The id that a file of the study is named by."""
    return name.removesuffix(_JSON)
