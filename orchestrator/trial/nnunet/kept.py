"""nnU-Net's checkpoint as a file of the study: its bytes, which only nnU-Net reads, with what we
know of the training, and a checksum over both.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

MARK = b"medvision nnU-Net checkpoint\n"  # then a line of JSON, then nnU-Net's file
FINAL, LATEST = "checkpoint_final.pth", "checkpoint_latest.pth"


@dataclass(frozen=True)
class Kept:
    """`content`: nnU-Net's file; `final`: whether the training was finished; `history`: metrics of
    each epoch in it; `spent`: by all processes until then.
    """

    content: bytes = field(repr=False)
    final: bool
    history: list[dict[str, float]]
    spent: Mapping[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What nnU-Net calls the file."""
        return FINAL if self.final else LATEST


def packed(kept: Kept) -> bytes:
    """The file of the study."""
    about = {name: value for name, value in asdict(kept).items() if name != "content"}
    line = json.dumps(about).encode() + b"\n"
    digest = hashlib.sha256(line + kept.content).hexdigest().encode() + b"\n"
    return MARK + digest + line + kept.content


def unpacked(saved: bytes | None) -> Kept | None:
    """What `packed` gave; None where there is none, and with a warning where it is damaged: the
    training starts over then.
    """
    if saved is None:
        return None
    mark, digest, rest = saved[: len(MARK)], *_line(saved[len(MARK) :])
    if mark != MARK or hashlib.sha256(rest).hexdigest().encode() != digest:
        message = (
            f"a checkpoint of nnU-Net of {len(saved):,} bytes is not what was written, so the "
            "training starts over"
        )
        warnings.warn(message, stacklevel=2)
        return None
    line, content = _line(rest)
    return Kept(content=content, **json.loads(line))


def _line(content: bytes) -> tuple[bytes, bytes]:
    line, _, rest = content.partition(b"\n")
    return line, rest
