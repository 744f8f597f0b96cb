"""A JSON file of a study as a type: what all types of `record.schema` share."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

AGAIN = "run the study's command again, which writes it anew"


class Stored(BaseModel):
    """A JSON file of a study, or a part of one. `remedy`: what to do with a file that is not so."""

    model_config = ConfigDict(frozen=True, extra="allow")
    remedy: ClassVar[str] = AGAIN

    def to_json(self) -> dict[str, Any]:
        """The JSON that is stored: what was set, under the names of the file."""
        return self.model_dump(by_alias=True, exclude_unset=True)


def problems(error: ValidationError) -> str:
    """The first things that are wrong: `trials.3 lacks eval_id; fractions.0: ...`."""
    told = []
    for problem in error.errors()[:3]:
        *place, last = map(str, problem["loc"] or ("it",))
        where = ".".join(place) or "it"
        if problem["type"] == "missing":
            told.append(f"{where} lacks {last}")
        elif problem["type"] == "model_type":  # pydantic's words would name a class of ours
            told.append(f"{'.'.join([*place, last])} is no mapping")
        else:
            told.append(f"{'.'.join([*place, last])}: {problem['msg']}")
    return "; ".join(told)
