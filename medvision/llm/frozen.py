"""What every frozen block does, wherever its layers come from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from medvision.llm.errors import BlockError
from medvision.llm.halves import keep_halves


class FrozenBlock(nn.Module):
    """Consecutive layers of a transformer, frozen, as a map from [B, T, C] to [B, T, C].

    Its parameters have requires_grad False and its own dropout is never on, even after
    `train()`; gradients pass through to its input. The input is taken to the parameters' dtype
    and the output back to the input's.

    Attributes:
        hidden_size: C.
        heads: query heads of an attention.
        kv_heads: its key/value heads; query head i belongs to key/value head i // (heads /
            kv_heads).
        family: its name in `medvision.llm.families`, or in transformers.
        layer: index of the layer in its model, counted from 0, or a tuple of them.
        fingerprint: sha256 of configuration and weights (as float32).
        in_halves: whether `keep_halves` is known to change no number.
        left_wide: names of maps that it leaves as they are.
        projections: for q, k, v and o the names of the linear maps inside this module, for LoRA;
            a role that the layer holds in no map of its own is not there.
    """

    hidden_size: int
    heads: int
    kv_heads: int
    family: str
    layer: int | tuple[int, ...]
    fingerprint: str
    causal: bool
    in_halves: bool = False
    left_wide: Collection[str] = ()
    layers: nn.ModuleList
    norm: nn.Module | None
    projections: Mapping[str, tuple[str, ...]]
    # A parameter that is not kept in 16 bits where others are; in a tuple, which registers nothing.
    _wide: tuple[nn.Parameter, ...] = ()
    _kept: bool = False  # whether `keep_halves` was asked for

    def _frozen(self, layers: Sequence[int]) -> None:
        """The last step of making one."""
        self.layer = layers[0] if len(layers) == 1 else tuple(layers)
        self.requires_grad_(False)
        self.train(False)

    @property
    def active_parameters(self) -> int:
        """Parameters that one token meets: of a mixture's experts those that it is sent to."""
        return sum(parameter.numel() for parameter in self.parameters())

    def train(self, mode: bool = True) -> FrozenBlock:
        """Stay in evaluation mode: a frozen block's dropout would only add noise."""
        del mode
        super().train(False)
        return self

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Apply the layers (and the final norm).

        Args:
            tokens: [B, T, C] embeddings, any floating dtype.

        Returns:
            [B, T, C] in the dtype of `tokens`.

        Raises:
            BlockError: another number of axes or another C.
        """
        if tokens.ndim != 3 or tokens.shape[-1] != self.hidden_size:
            raise BlockError(
                f"the block maps [B, T, {self.hidden_size}], but got {list(tokens.shape)}"
            )
        hidden = self._through_layers(tokens.to(self._inside))
        if self.norm is not None:
            hidden = self.norm(hidden)
        return hidden.to(tokens.dtype)

    @property
    def _inside(self) -> torch.dtype:
        """The dtype of the tokens between the layers: that of what is not kept in 16 bits."""
        if self._wide:
            return self._wide[0].dtype
        first = next(self.parameters()).dtype
        return torch.float32 if self._kept and first.itemsize == 2 else first

    @abstractmethod
    def _through_layers(self, hidden: torch.Tensor) -> torch.Tensor:
        """The layers alone, [B, T, C] to [B, T, C] in the parameters' dtype."""

    @abstractmethod
    def randomise(self, seed: int) -> FrozenBlock:
        """Replace the weights by random ones, in place: the control for whether they matter. The
        fingerprint becomes that of architecture and seed.
        """

    @abstractmethod
    def reset_final_norm(self) -> FrozenBlock:
        """Give the final norm the weights that it has before any training, in place: it then only
        normalises.
        """

    def keep_halves(self) -> FrozenBlock:
        """Keep the linear maps' weights in 16 bits, in place, where these hold them exactly
        (`medvision.llm.halves`): half the memory, the same output and gradient bit by bit.

        Only of families of which tests prove it (`medvision.llm.proven`); the others' layers may
        ask for a weight's dtype.
        """
        if self.in_halves:
            self._wide, self._kept = keep_halves(self, self.left_wide)[:1], True
        return self

    def tile_kv_heads(self) -> FrozenBlock:
        """Pair query head i with key/value head i mod kv_heads instead of i // (heads / kv_heads),
        in place.

        The official code repeats the key/value heads by tiling them, where grouped-query attention
        (Ainslie et al. 2023) repeats each one for its group, so that most query heads meet keys
        that they were not trained with. Here the query heads change their places instead, rows of
        the query projection and columns of the output projection, which gives the same output.
        Nothing changes where every query head has its own keys.

        Raises:
            BlockError: heads share keys, and queries are no linear map of their own, or something
                else belongs to single heads.
        """
        if self.heads == self.kv_heads:
            return self
        if not {"q", "o"} <= self.projections.keys():
            raise BlockError(
                f"kv_pairing: tiled needs query and output projections, and a {self.family} layer "
                "has them in one map with others; leave kv_pairing at grouped"
            )
        if held := self._held_by_heads():
            raise BlockError(
                f"kv_pairing: tiled changes the places of query heads, and {held} of a "
                f"{self.family} layer belongs to single ones; leave kv_pairing at grouped"
            )
        places = torch.arange(self.heads).view(-1, self.kv_heads).T.reshape(-1)
        for query, output in zip(self.projections["q"], self.projections["o"], strict=True):
            for parameter in self.get_submodule(query).parameters():
                heads = parameter.data.view(self.heads, -1, *parameter.shape[1:])
                parameter.data = heads[places].reshape(parameter.shape)
            weight = self.get_submodule(output).get_parameter("weight")
            columns = weight.data.view(weight.shape[0], self.heads, -1)
            weight.data = columns[:, places].reshape(weight.shape)
        return self

    def _held_by_heads(self) -> str:
        """A parameter with values for each query head beside the projections, "" without one."""
        own = [path for role in ("q", "k", "v", "o") for path in self.projections.get(role, ())]
        width = self.get_submodule(self.projections["q"][0]).get_parameter("weight").shape[0]
        inside = tuple(path.rpartition(".")[0] + "." for path in self.projections["q"])
        for name, parameter in self.named_parameters():
            if not name.startswith(inside) or name.startswith(tuple(f"{path}." for path in own)):
                continue
            per_head = parameter.shape[0] == self.heads and (
                parameter.ndim == 2 or "sink" in name.lower()
            )
            if per_head or (parameter.ndim == 1 and parameter.shape[0] == width):
                return name
        return ""

    def extra_repr(self) -> str:
        """Family, layer and fingerprint, for print()."""
        return (
            f"{self.family}, layer={self.layer}, causal={self.causal}, "
            f"fingerprint={self.fingerprint[:12]}"
        )
