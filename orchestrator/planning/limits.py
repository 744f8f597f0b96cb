"""Stops a run at the limits of its spec, in good order, and tells whoever is to hear of it."""

from __future__ import annotations

import contextlib
import json
import shlex
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from types import MappingProxyType

from orchestrator.planning.inputs import InputError
from orchestrator.planning.plan import Plan
from orchestrator.spec.study import Spec
from record import paths
from record.damage import readable_commits
from record.events import Emit, Event, Quarantined, Started, Stopped, TrialEvent
from record.schema import Commit, SpentFile
from record.store import Store, StoreError

LOOK_SECONDS = 1.0  # between two looks at what was spent
KEEP_SECONDS = 60.0  # between two notes of what attempts spent, each with all of the study
NOTIFY_SECONDS = 30.0  # that a command or server may take


class Spent:
    """GPU-hours of a study: of every attempt of this run and of those before, and of finished
    trials of which no attempt is known.

    Args:
        plan: its trials, which say how many GPUs each holds.
        commits: the finished ones.
        before: GPU-seconds that attempts of earlier runs held, by evaluation (`SpentFile`).
        clock: seconds.
    """

    def __init__(
        self,
        plan: Plan,
        commits: Mapping[str, Commit],
        before: Mapping[str, float] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.started = clock, clock()
        self.gpus = {trial.name: trial.work.gpus for trial in plan.trials}
        # A commit's seconds are those of the attempts that its training went on from.
        finished = {
            name: commits[name].cost.seconds * gpus
            for name, gpus in self.gpus.items()
            if name in commits
        }
        names = [*before, *(name for name in finished if name not in before)]
        self.held = {name: max(before.get(name, 0.0), finished.get(name, 0.0)) for name in names}
        self.running: dict[str, float] = {}
        self.lock = threading.Lock()

    def heard(self, event: Event) -> None:
        """An event of the run: a trial holds its GPUs from its start to whatever ends it."""
        if not isinstance(event, TrialEvent):
            return
        name = event.eval_id
        with self.lock:
            if isinstance(event, Started):
                self.running[name] = self.clock()
            elif event.word in ("finished", "failed", "interrupted", "quarantined"):
                seconds = self._of(name)
                self.running.pop(name, None)
                self.held[name] = self.held.get(name, 0.0) + seconds

    def gpu_seconds(self) -> dict[str, float]:
        """Until now, by evaluation; of those without a GPU nothing."""
        with self.lock:
            names = dict.fromkeys((*self.held, *self.running))
            found = {name: self.held.get(name, 0.0) + self._of(name) for name in names}
        return {name: seconds for name, seconds in found.items() if seconds}

    def _of(self, name: str) -> float:
        """GPU-seconds of an attempt that runs now."""
        begun = self.running.get(name)
        return 0.0 if begun is None else (self.clock() - begun) * self.gpus.get(name, 0.0)

    @property
    def hours(self) -> float:
        """Since the run began."""
        return (self.clock() - self.started) / 3600

    @property
    def gpu_hours(self) -> float:
        """Of the study until now."""
        return sum(self.gpu_seconds().values()) / 3600


def reached(spec: Spec, spent: Spent) -> str:
    """The limit that is reached, in words; empty below all of them."""
    limits = spec.limits
    if limits.hours is not None and spent.hours >= limits.hours:
        return f"limits.hours: {limits.hours:g} h of this run are over"
    if limits.gpu_hours is not None and spent.gpu_hours >= limits.gpu_hours:
        return f"limits.gpu_hours: {limits.gpu_hours:g} GPU-hours are spent{money(spec, spent)}"
    return ""


def money(spec: Spec, spent: Spent) -> str:
    """What was spent in the currency of `cost_per_gpu_hour`; empty without it."""
    each = spec.limits.cost_per_gpu_hour
    return "" if each is None else f" ({spent.gpu_hours * each:,.2f} at {each:g} an hour)"


def within_limits(
    run: Callable[[Emit], object],
    spec: Spec,
    plan: Plan,
    store: Store,
    emit: Emit,
    say: Callable[[str], object],
    look_seconds: float = LOOK_SECONDS,
    keep_seconds: float = KEEP_SECONDS,
) -> None:
    """Train, and stop at a limit as Ctrl-C does, but return: the report comes next.

    What attempts spent is written down for later runs once a minute and at the end, whatever it
    is. Only a driver that is killed loses some: at most the last minute of its running and failed
    attempts; what finished ones took is in their commits, too.

    Args:
        run: trains; it gives its events to what it is called with.
        spec, plan, store: of the study.
        emit: takes the events next.
        say: shows a line.
        look_seconds, keep_seconds: between two looks, and two notes.

    Raises:
        InputError: the estimate is above what is left, and the spec refuses that.
        DamagedError: what earlier runs wrote down is damaged.
    """
    known = store.load(paths.SPENT, SpentFile) or SpentFile()
    spent = Spent(plan, readable_commits(store), known.gpu_seconds)
    why, over, ending = list[str](), threading.Event(), threading.Lock()
    refuse_beyond(spec, plan, spent)
    written = dict(known.gpu_seconds)

    def keep() -> None:
        seconds = spent.gpu_seconds()
        if seconds == written:
            return
        try:
            store.save(paths.SPENT, SpentFile(gpu_seconds=seconds))
        except StoreError as error:  # the next one writes all of it again
            say(f"warning: what this run spends is not written down: {error}")
        else:
            written.clear()
            written.update(seconds)

    def heard(event: Event) -> None:
        spent.heard(event)
        if isinstance(event, Quarantined):
            notify(spec, event, say)
        emit(event)

    def watch() -> None:
        kept = spent.clock()
        while not over.wait(look_seconds):
            if spent.clock() - kept >= keep_seconds:
                keep()
                kept = spent.clock()
            if not (reason := reached(spec, spent)):
                continue
            with ending:
                if not over.is_set():  # once: as Ctrl-C, trials write checkpoints
                    why.append(reason)
                    signal.pthread_kill(main_thread, signal.SIGINT)
            return

    def leave() -> None:
        """A signal is sent before this, and raised in here, or never."""
        with ending:
            over.set()

    main_thread = threading.main_thread().ident or 0
    watcher = threading.Thread(target=watch, name="limits", daemon=True)
    watched = bool(spec.limits.hours or spec.limits.gpu_hours or any(spent.gpus.values()))
    try:
        if watched:
            watcher.start()
        run(heard)
        leave()
    except KeyboardInterrupt:
        if not why:
            notify(spec, Stopped("by hand"), say)
            raise
        say(f"Stopped at {why[0]}; raise it, and run the same command again to go on.")
        notify(spec, Stopped(why[0]), say)
    except Exception:
        with contextlib.suppress(KeyboardInterrupt):  # a limit at the same moment hides no error
            leave()
        raise
    finally:
        over.set()
        if watched:
            watcher.join()  # or what it writes could replace the last word
        keep()


def refuse_beyond(spec: Spec, plan: Plan, spent: Spent) -> None:
    """Where the spec wants it, refuse a plan whose estimate is above what is left.

    Raises:
        InputError: it is.
    """
    limits = spec.limits
    if limits.plan != "refuse":
        return
    names = [trial.name for trial in plan.trials if trial.to_run]
    # Without max_lanes the machines decide on lanes: no run is faster than one a trial.
    lanes = spec.resources.max_lanes or max(len(names), 1)
    forecast = plan.cost.forecast(names, lanes)
    left = None if limits.gpu_hours is None else limits.gpu_hours - spent.gpu_hours
    if left is not None and forecast.gpu_hours > left:
        raise InputError(
            f"limits.gpu_hours: {forecast.gpu_hours:.1f} GPU-hours are estimated, {left:.1f} are "
            "left: raise it, plan less, or set limits.plan: trim"
        )
    if limits.hours is not None and forecast.seconds / 3600 > limits.hours:
        raise InputError(
            f"limits.hours: {forecast.seconds / 3600:.1f} h are estimated on {lanes} lanes, "
            f"{limits.hours:g} are allowed: raise it, plan less, or set limits.plan: trim"
        )


def notify(spec: Spec, event: Event, say: Callable[[str], object]) -> None:
    """Tell `notify`: a web address gets the event as JSON by POST, a command on its standard
    input. That it fails is said, without what it is, which may hold secrets, and stops nothing.
    """
    if not spec.notify:
        return
    content = json.dumps({"study": spec.name, **event.to_json()}, default=str).encode()
    try:
        if spec.notify.startswith(("https://", "http://")):
            head = {"Content-Type": "application/json"}
            asked = urllib.request.Request(spec.notify, content, head)  # noqa: S310
            with urllib.request.urlopen(asked, timeout=NOTIFY_SECONDS):  # noqa: S310
                return
        command = shlex.split(spec.notify)
        quiet = subprocess.DEVNULL
        subprocess.run(command, input=content, timeout=NOTIFY_SECONDS, check=True, stdout=quiet)
    except subprocess.CalledProcessError as error:
        say(f"warning: notify: the command ended with exit code {error.returncode}")
    except (subprocess.TimeoutExpired, TimeoutError):
        say(f"warning: notify: no answer within {NOTIFY_SECONDS:g} seconds")
    except urllib.error.HTTPError as error:
        say(f"warning: notify: the server answered {error.code}")
    except OSError as error:
        why = error.reason if isinstance(error, urllib.error.URLError) else error
        text = why.strerror if isinstance(why, OSError) else None
        say(f"warning: notify: cannot be reached or started ({text or type(why).__name__})")
    except (HTTPException, ValueError, subprocess.SubprocessError) as error:
        say(f"warning: notify: cannot be used ({type(error).__name__})")
