"""An unfinished training as bytes, so that one that is resumed gives the numbers of an undisturbed
one, bit for bit.

Random choices are derived from (seed, epoch, case or rank), so a checkpoint between two epochs
needs no random state. One that was written in the middle of an epoch, because the process was asked
to end, holds each rank's.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

Metrics = dict[str, float]

_MARK = b"medvision checkpoint\n"  # then the sha256 of what follows
_ZIP = b"PK"  # what torch's files begin with
_HEAD = len(_MARK) + hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its state: `load` gives the last saved bytes or None. Ranks other than
    0 only load.
    """

    load: Callable[[], bytes | None] = lambda: None
    save: Callable[[bytes], None] = lambda _: None


@dataclass
class Trained:
    """`state`: the chosen epoch's parameters without the frozen block's; `history`: one mapping an
    epoch, from epoch 1.

    `spent`: what earlier processes spent on this training until their last checkpoints, in seconds
    and other units.
    """

    state: dict[str, torch.Tensor]
    epoch: int
    history: list[Metrics]
    spent: dict[str, float] = field(default_factory=dict)


@dataclass
class Position:
    """How far an epoch is: steps done, this rank's sums so far, and the rate it began with.

    A checkpoint in the middle of an epoch also holds every rank's random states and sums.
    """

    step: int = 0
    loss_sum: float | torch.Tensor = 0.0
    seen: float = 0.0
    lr: float | None = None
    random: list[list[torch.Tensor]] = field(default_factory=list)
    sums: list[list[float]] = field(default_factory=list)


@dataclass
class TrainingState:
    """Everything that a training changes."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    scaler: torch.amp.GradScaler
    best: Trained
    position: Position = field(default_factory=Position)

    @property
    def history(self) -> list[Metrics]:
        return self.best.history

    def to_bytes(self, spent: Mapping[str, float] | None = None) -> bytes:
        """The state without a language-model block's frozen parameters, which its own checkpoint
        holds.

        Args:
            spent: by this process so far; the checkpoint holds it together with what earlier ones
                spent.
        """
        return sealed(self.written(spent))

    def written(self, spent: Mapping[str, float] | None = None) -> io.BytesIO:
        """The same without its mark and checksum, for which there is room: `sealed` adds them. It
        is the only copy of the state that is made.
        """
        buffer = io.BytesIO()
        buffer.write(bytes(_HEAD))
        torch.save(
            {
                "model": portable_state(self.model, copied=False),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict() if self.schedule is not None else None,
                "scaler": self.scaler.state_dict(),
                "history": self.history,
                "best": self.best.state,
                "best_epoch": self.best.epoch,
                "position": {**vars(self.position), "loss_sum": float(self.position.loss_sum)},
                "spent": summed(self.best.spent, spent or {}),
            },
            buffer,
        )
        return buffer

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `to_bytes` gave and `unpacked` read."""
        self.model.load_state_dict(
            state["model"], strict=False
        )  # a frozen block is not stored again
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.history.extend(state["history"])
        self.best.state, self.best.epoch = state["best"], state["best_epoch"]
        self.best.spent = state.get("spent", {})  # absent in checkpoints from before it was kept
        self.position = Position(**state["position"])


def sealed(written: io.BytesIO) -> bytes:
    """What `TrainingState.written` gave, with its mark and checksum; may run in another thread."""
    with written.getbuffer() as content:
        content[:_HEAD] = _MARK + hashlib.sha256(content[_HEAD:]).digest()
    return written.getvalue()  # Python makes no copy here


def unpacked(saved: bytes | None) -> dict[str, Any] | None:
    """The state that `to_bytes` gave, on the CPU; None where there is none, and with a warning
    where it cannot be read.

    A storage that does not write files whole may leave a part of one when a machine dies, and a
    disk may turn a bit, which torch does not see. The training then starts over. Checkpoints of
    versions before 0.2 are torch's files without a checksum.
    """
    if saved is None:
        return None
    try:
        return _read(saved)
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        message = (
            f"a checkpoint of {len(saved):,} bytes cannot be read, so the training starts over: "
            f"{error}"
        )
        warnings.warn(message, stacklevel=2)
        return None


def _read(saved: bytes) -> dict[str, Any]:
    content = saved
    if saved.startswith(_MARK):
        digest, content = saved[len(_MARK) : _HEAD], saved[_HEAD:]
        if hashlib.sha256(content).digest() != digest:
            raise ValueError("it has changed since it was written")
    if not content.startswith(_ZIP):
        raise ValueError("it is none")
    state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    return state


def summed(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Two accounts added up."""
    return {name: first.get(name, 0.0) + second.get(name, 0.0) for name in {**first, **second}}


def portable_state(model: nn.Module, *, copied: bool = True) -> dict[str, torch.Tensor]:
    """Parameters and buffers, without a language-model block's frozen parameters, which its
    checkpoint holds.

    Args:
        copied: to the CPU, so that they stay what they are; otherwise the model's own.
    """
    blocks = tuple(
        f"{name}." for name, module in model.named_modules() if hasattr(module, "fingerprint")
    )
    stored, state = model.state_dict(), {}
    for name, value in (*model.named_parameters(), *model.named_buffers()):
        left_out = blocks and name.startswith(blocks) and not value.requires_grad
        if name in stored and not left_out:
            own = value.detach()
            # a part of a larger storage would be written with all of it
            whole = own.untyped_storage().nbytes() == own.nbytes
            state[name] = own if whole and not copied else own.to("cpu", copy=True).contiguous()
    return state


def random_states(device: torch.device) -> list[torch.Tensor]:
    """This process's random states: the CPU's, and the device's where it has its own."""
    return [
        torch.get_rng_state(),
        *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else []),
    ]


def set_random_states(states: list[torch.Tensor], device: torch.device) -> None:
    """Set what `random_states` gave."""
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
