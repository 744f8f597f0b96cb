"""A JSON file of a study as a type, what all types of `record.schema` share, and the checksum that
every such file carries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

SCHEMA_VERSION = 1
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"  # UTC
AGAIN = "run the study's command again, which writes it again"


class Stored(BaseModel):
    """A JSON file of a study, or a part of one. `remedy`: what to do with a file that is not
    valid.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    remedy: ClassVar[str] = AGAIN

    def to_json(self) -> dict[str, Any]:
        """The JSON that is stored: what was set, under the names of the file."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def as_read(self) -> Self:
        """The value as it is read back from its file: mappings in the order of their keys."""
        return type(self).model_validate(json.loads(json.dumps(self.to_json(), sort_keys=True)))


CHECKSUM = "checksum"


def sealed(values: Mapping[str, Any], place: str) -> bytes:
    """JSON with a checksum of what it says and of where it lies, so that neither a flipped bit nor
    a file under another's name is read as a result.

    Args:
        values: what the file says.
        place: its path in the study.
    """
    values = {name: value for name, value in values.items() if name != CHECKSUM}
    as_read = json.loads(json.dumps(values))  # keys are text then
    content = {**values, CHECKSUM: _checksum(as_read, place)}
    return json.dumps(content, indent=1, sort_keys=True).encode()


def unsealed(values: Any, place: str) -> Any:
    """What a file of `sealed` says; files of versions before 0.2 have no checksum.

    Raises:
        ValueError: it is not what was written there.
    """
    if not isinstance(values, dict) or CHECKSUM not in values:
        return values
    content = dict(values)
    if content.pop(CHECKSUM) != _checksum(content, place):
        raise ValueError("it is not what was written there")
    return content


def _checksum(values: Mapping[str, Any], place: str) -> str:
    """Of values as JSON gives them."""
    return hashlib.sha256(f"{place}\n{json.dumps(values, sort_keys=True)}".encode()).hexdigest()


def problems(error: ValidationError) -> str:
    """The first things that are wrong: `trials.3 lacks eval_id; fractions.0: ...`."""
    found = []
    for problem in error.errors()[:3]:
        *place, last = map(str, problem["loc"] or ("it",))
        where = ".".join(place) or "it"
        if problem["type"] == "missing":
            found.append(f"{where} lacks {last}")
        elif problem["type"] == "model_type":  # pydantic's message would name one of our classes
            found.append(f"{'.'.join([*place, last])} is no mapping")
        else:
            found.append(f"{'.'.join([*place, last])}: {problem['msg']}")
    return "; ".join(found)
