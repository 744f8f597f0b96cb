"""Weight files by byte range: where each tensor lies in a file of safetensors or of torch.save."""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from medvision.llm.bytefile import ByteFile, Stream, check_range, other_kind
from medvision.llm.errors import BlockError

# Of a quantised weight and what lies beside it, which is no parameter of a block as it is.
PACKED = {
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "F8_E4M3": torch.float8_e4m3fn,
}
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_TORCH = (b"PK\x03\x04", b"\x80\x02")  # how files of torch.save begin
_MAX_JSON = (
    100_000_000  # a safetensors header of more bytes is refused, as the format's own library does
)


@dataclass(frozen=True)
class Slot:
    """A tensor not yet read: its shape, the dtype it will have, and how to read it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], torch.Tensor]


def read_safetensors(file: ByteFile, *, packed: bool = False) -> dict[str, Slot]:
    """Slots of every tensor of a safetensors file (https://huggingface.co/docs/safetensors,
    "Format").

    Args:
        packed: with the dtypes of quantised weights (`PACKED`).

    Raises:
        BlockError: not a safetensors file, truncated, or with dtypes other than F64, F32, F16 and
            BF16 when read.
    """
    foreign = f"{file.name} is no safetensors file, or a damaged one"
    if file.size < 8:
        raise BlockError(f"{foreign}{other_kind(file, b'{')}: it has {file.size} bytes")
    (length,) = struct.unpack("<Q", file.read(0, 8))
    if length > min(_MAX_JSON, file.size - 8):
        raise BlockError(
            f"{foreign}{other_kind(file, b'{')}: its header claims {length} bytes, the file has "
            f"{file.size}"
        )
    try:
        known = DTYPES | PACKED if packed else DTYPES
        header = json.loads(bytes(file.read(8, length)))
        header.pop("__metadata__", None)
        slots = {}
        for name, entry in header.items():
            begin, end = map(int, entry["data_offsets"])
            shape = tuple(map(int, entry["shape"]))
            slots[name] = _raw_slot(
                file, name, str(entry["dtype"]), shape, 8 + length + begin, end - begin, known
            )
        return slots
    except BlockError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise BlockError(f"{foreign}: {error!r} in its header") from error


def _raw_slot(
    file: ByteFile,
    name: str,
    dtype: str,
    shape: tuple[int, ...],
    offset: int,
    length: int,
    known: Mapping[str, torch.dtype],
) -> Slot:
    check_range(file, offset, length)
    torch_dtype = known.get(dtype)

    def read() -> torch.Tensor:
        if torch_dtype is None:
            raise BlockError(
                f"{file.name}: {name} has dtype {dtype}; a block needs one of {', '.join(DTYPES)}"
            )
        if length != math.prod(shape) * torch_dtype.itemsize:
            raise BlockError(
                f"{file.name}: {name} has {length} bytes, which is not {dtype} of shape "
                f"{list(shape)}"
            )
        return torch.frombuffer(file.read(offset, length), dtype=torch_dtype).reshape(shape)

    return Slot(shape, torch_dtype or torch.float32, read)


def read_torch(file: ByteFile) -> dict[str, Slot]:
    """Slots of every tensor of a file that torch.save wrote (pytorch_model.bin,
    consolidated.00.pth).

    Only the tensors' descriptions are unpickled, with weights_only, under FakeTensorMode, which
    records where in the file each storage lies ("Serialization semantics" in PyTorch's notes).
    Files from before PyTorch
    1.6 are no zip archives and have to be loaded whole.

    Raises:
        BlockError: foreign or truncated, or its pickle asks for anything but tensors (nothing of
            that is run).
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    legacy = bytes(file.read(0, min(4, file.size))) != _TORCH[0]
    try:
        if legacy:
            state = torch.load(file.local(), map_location="cpu", weights_only=True)
        else:
            with FakeTensorMode():
                stream = io.BufferedReader(Stream(file))
                state = torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if kind := other_kind(file, *_TORCH):
            raise BlockError(f"{file.name} is no PyTorch checkpoint{kind}") from error
        raise BlockError(
            f"{file.name} was refused: it is damaged, or its pickle holds more than tensors and "
            f"could run code ({str(error).splitlines()[0][:200]}); take safetensors from a source "
            "that you trust"
        ) from error
    except BlockError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise BlockError(
            f"{file.name} is no PyTorch checkpoint, or a damaged one"
            f"{other_kind(file, *_TORCH)}: {error}"
        ) from error
    if not isinstance(state, dict):
        raise BlockError(
            f"{file.name} holds a {type(state).__name__} where a dictionary of tensors is expected"
        )
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}
    if legacy:
        return {name: _loaded_slot(tensor) for name, tensor in tensors.items()}
    return {name: _zip_slot(file, name, tensor) for name, tensor in tensors.items()}


def _loaded_slot(tensor: torch.Tensor) -> Slot:
    return Slot(tuple(tensor.shape), tensor.dtype, lambda: tensor)


def _zip_slot(file: ByteFile, name: str, fake: torch.Tensor) -> Slot:
    start = fake.untyped_storage()._checkpoint_offset
    shape, stride, dtype = tuple(fake.shape), fake.stride(), fake.dtype
    offset = start + fake.storage_offset() * dtype.itemsize
    # A transposed or expanded view is read as the stretch of storage that it spans.
    span = (
        1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        if fake.numel()
        else 0
    )
    check_range(file, offset, span * dtype.itemsize)

    def read() -> torch.Tensor:
        if dtype not in DTYPES.values():
            raise BlockError(
                f"{file.name}: {name} has dtype {dtype}; a block needs one of {', '.join(DTYPES)}"
            )
        flat = torch.frombuffer(file.read(offset, span * dtype.itemsize), dtype=dtype)
        return flat.as_strided(shape, stride).contiguous()

    return Slot(shape, dtype, read)
