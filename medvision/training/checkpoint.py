"""One trained model in one safetensors file: its weights, and in the header what is needed to build
it and to feed it.

The weights of a frozen language-model block are not in it: they are read again from the block's
source, and its fingerprint, a hash of configuration and weights, must be the one that the model was
trained with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, PositiveInt, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from medvision.data.settings import Preparation, Size
from medvision.errors import DataError
from medvision.inference import Inference
from medvision.llm.errors import BlockError
from medvision.models import build_model
from medvision.models.bottleneck import BottleneckSettings
from medvision.models.custom.settings import CustomSettings
from medvision.models.registry import ModelSettings
from medvision.models.vit.settings import LlmViTSettings
from medvision.placeholders import HEAD, placeholder
from medvision.settings import Output, Precision
from medvision.training.state import portable_state

KEY = "medvision"  # of the header's metadata; one key only, because safetensors keeps no order


class CheckpointError(DataError):
    """A file that is no checkpoint of this product, or does not fit the block it is used with; one
    line.
    """


class About(BaseModel):
    """What a checkpoint says of itself.

    Attributes:
        block: fingerprint of the language-model block, None without one.
        file_channels: of the files that it was trained on, where all of them scale the one that it
            sees (`data.scaled: file`); None otherwise, and in files from before it was kept.
        output, inference: how a case is segmented; files from before they were kept have the
            defaults.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    model: ModelSettings
    block: str | None
    task: str
    patch_size: Size
    in_channels: PositiveInt
    file_channels: PositiveInt | None = None
    preparation: Preparation
    precision: Precision
    output: Output = "sigmoid"
    inference: Inference = Inference()


def save_checkpoint(model: nn.Module, about: About) -> bytes:
    """The file's content; equal models give equal bytes."""
    return save(portable_state(model), metadata={KEY: about.model_dump_json()})


def read_about(path: Path) -> About:
    """A checkpoint's own description; reads no weight.

    Raises:
        CheckpointError: missing, truncated, or not written by `save_checkpoint`.
    """
    try:
        with path.open("rb") as start:
            if instead := placeholder(start.read(HEAD)):
                raise CheckpointError(f"{path}: {instead}")
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: cannot be read as safetensors: {_line(error)}") from error
    if text is None:
        raise CheckpointError(
            f"{path}: is a safetensors file of something else: its header has no {KEY!r} entry. A "
            "trial's weights lie in STUDY/trials/*/*/weights.safetensors"
        )
    try:
        return About.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise CheckpointError(
            f"{path}: its description is wrong or of another version: {where}: {first['msg']}"
        ) from error


def load_checkpoint(
    path: Path,
    *,
    source: str | None = None,
    device: torch.device | None = None,
    trust_code: bool = False,
) -> tuple[nn.Module, About]:
    """The trained model, in evaluation mode, and its description.

    Args:
        source: where the language-model block lies now, if no longer where it was in training.
        trust_code: run the Python that the checkpoint of a custom model carries, which can do all
            that you can.

    Raises:
        CheckpointError: as `read_about`; code of its own that is not trusted; weights of another
            shape; a block of another fingerprint.
        medvision.llm.BlockError, medvision.assets.AssetError: the block cannot be had.
    """
    about = read_about(path)
    settings = about.model
    if isinstance(settings, CustomSettings) and not trust_code:
        raise CheckpointError(
            f"{path}: its model {settings.network} is Python of its author's own "
            f"({', '.join(settings.files)}; sha256 {settings.sha256[:12]}), which would run with "
            "your rights: give --trust-code if you trust whoever made this file"
        )
    if source is not None:
        if not isinstance(settings, LlmViTSettings | BottleneckSettings) or not settings.llm:
            raise CheckpointError(
                f"{path}: {settings.label} has no language-model block, so it takes no source of "
                "one"
            )
        settings = settings.model_copy(
            update={"llm": settings.llm.model_copy(update={"source": source})}
        )
    try:
        model = build_model(
            image_size=about.preparation.image_size,
            patch_size=about.patch_size,
            in_channels=about.in_channels,
            out_channels=len(about.preparation.groups),
            **settings.model_dump(mode="json", exclude={"name"}),
        )
    except BlockError:
        raise
    except ValueError as error:
        raise CheckpointError(f"{path}: its model cannot be built: {error}") from error
    if (found := block_fingerprint(model)) != about.block:
        raise CheckpointError(
            f"{path}: was trained with the language-model block {about.block}, but finds {found}; "
            "name the checkpoint that it was trained with"
        )
    try:
        with safe_open(path, framework="pt") as file:
            # it is no mapping
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        unknown = model.load_state_dict(weights, strict=False).unexpected_keys
    except (OSError, SafetensorError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: its weights do not fit its {settings.label}: {_line(error)}"
        ) from error
    lacking = sorted(portable_state(model).keys() - weights.keys())
    if lacking or unknown:
        raise CheckpointError(
            f"{path}: its weights do not fit its {settings.label}: {len(lacking)} tensors are "
            f"lacking and {len(unknown)} unknown, such as {[*lacking, *unknown][0]}"
        )
    return model.eval().to(device or torch.device("cpu")), about


def block_fingerprint(model: nn.Module) -> str | None:
    """Fingerprint of the language-model block in a model, None where there is none."""
    return next(
        (str(part.fingerprint) for part in model.modules() if hasattr(part, "fingerprint")), None
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
