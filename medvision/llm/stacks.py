"""The stack of layers inside any model of transformers, on the meta device.

The whole model is built there from its configuration, without weights, and the list of its layers
is looked up: so whatever decides a layer by its place (windows, experts, dense first layers) is
transformers' own. Only classes that come with transformers are used; code that a checkpoint brings
along is never run.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from medvision.llm.errors import BlockError

# Settings that change no number of a layer in evaluation.
_WITHOUT_NUMBERS = re.compile(
    r"vocab_size|_token_(id|index)|dropout|pdrop|drop_rate|drop_prob|^d?type$|dtype|architectures"
    r"|transformers_version|_name_or_path|auto_map|use_cache|tie_|id2label|label2id|problem_type"
    r"|^output_|return_dict|quantization_config|compression_config|^_"
)
_NORMS = (
    "norm",
    "final_layernorm",
    "final_layer_norm",
    "final_norm",
    "ln_f",
    "norm_f",
    "layer_norm",
    "layernorm",
    "post_layernorm",
)
_HOME = "transformers.models."


@dataclass(frozen=True)
class Stack:
    """A list of layers, where it is in its model, and what stands around it there.

    Attributes:
        model: the whole model, whose names checkpoints have.
        trunk: the model of transformers in it that holds the layers and the norm after them.
        prefix: what comes before the trunk's names in the model's, with a dot at its end.
        path: of the list in the trunk.
    """

    model: Any
    trunk: Any
    prefix: str
    path: str

    @property
    def layers(self) -> nn.ModuleList:
        """The list itself."""
        found = self.trunk.get_submodule(self.path)
        assert isinstance(found, nn.ModuleList)  # noqa: S101
        return found

    @property
    def family(self) -> str:
        """What transformers calls the trunk's kind."""
        return str(self.trunk.config.model_type)

    def config(self) -> dict[str, Any]:
        """What the trunk is built from again, as JSON values, without what changes no number."""
        text = self.trunk.config.to_json_string(use_diff=True)
        name = f"{type(self.trunk).__module__}:{type(self.trunk).__qualname__}"
        return {"class": name, "path": self.path, "settings": _numbers(json.loads(text))}


def open_stack(raw: Mapping[str, Any], where: str) -> Stack:
    """The stack of the model that a checkpoint's configuration describes.

    Of a model for images and text it is the language model's, of a pair of encoders that are
    trained against each other (CLIP, SigLIP) the image encoder's, of an encoder with a decoder
    (T5) the encoder's.

    Raises:
        BlockError: transformers has no such model, cannot build it, or it has no list of layers.
    """
    config = _config(raw, where)
    model = _built(_class(config, raw, where), config, where)
    return _stack_in(model, where)


def kept_stack(config: Mapping[str, Any]) -> Stack:
    """The stack that `Stack.config` was taken of, its trunk alone.

    Raises:
        BlockError: this version of transformers builds it no more.
    """
    module, _, name = str(config["class"]).partition(":")
    where = f"the cached block of {name}"
    if not module.startswith(_HOME):
        raise BlockError(f"{where}: {module} is no module of transformers")
    settings = dict(config["settings"])
    try:
        trunk_class = getattr(importlib.import_module(module), name)
        config_class = _config_class(settings["model_type"], trunk_class)
        settings = config_class.from_dict(settings)
        if getattr(settings, "vocab_size", 0) is None:
            settings.vocab_size = 64  # no layer depends on it
    except Exception as error:
        raise BlockError(f"{where}: transformers does not know it: {error}") from error
    return Stack(None, _built(trunk_class, settings, where), "", str(config["path"]))


def _config_class(model_type: str, trunk_class: Any) -> Any:
    """The class of a trunk's configuration; `config_class` of some is that of a larger model."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    own = trunk_class.config_class
    return own if own.model_type == model_type else CONFIG_MAPPING[model_type]


def native(raw: Mapping[str, Any]) -> bool:
    """Whether transformers has a configuration of this `model_type`."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return raw.get("model_type") in CONFIG_MAPPING_NAMES


def _config(raw: Mapping[str, Any], where: str) -> Any:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    name = raw.get("model_type")
    if not native(raw):
        raise BlockError(f"{where}: {unknown(raw)}")
    try:
        return CONFIG_MAPPING[name].from_dict(dict(raw))
    except Exception as error:  # validation raises several kinds
        raise BlockError(f"{where}: transformers refuses its configuration: {error}") from error


def unknown(raw: Mapping[str, Any]) -> str:
    """Why a configuration that transformers has no class for is refused."""
    name = raw.get("model_type")
    if code := raw.get("auto_map"):
        files = ", ".join(sorted({str(file).partition(".")[0] for file in _leaves(code)}))
        return (
            f"the model family {name!r} needs code of its own that comes with the checkpoint "
            f"({files}), which is never run here: take a checkpoint of a family that transformers "
            "has (python -m medvision.models --families)"
        )
    return (
        f"the model family {name!r} is not supported: transformers has no class for it "
        "(python -m medvision.models --families shows what a block can come from)"
    )


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def _class(config: Any, raw: Mapping[str, Any], where: str) -> Any:
    """The class that the checkpoint names, whose tensors' names it has; or else the family's."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_MAPPING

    for name in raw.get("architectures") or ():
        found: Any = getattr(transformers, str(name), None)
        kind = getattr(found, "config_class", None)
        if isinstance(kind, type) and isinstance(config, kind):
            return found
    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise BlockError(
            f"{where}: transformers has no plain model of {raw.get('model_type')!r}, and none of "
            f"its own is named in architectures {raw.get('architectures')!r}"
        ) from error
    return found[0] if isinstance(found, tuple) else found


def _built(model_class: Any, config: Any, where: str) -> Any:
    from transformers.initialization import meta_device_safe_creation_ops

    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("meta"),
            meta_device_safe_creation_ops(),
        ):
            return model_class(config)
    except Exception as error:  # each class has its own ways to refuse sizes that do not fit
        raise BlockError(
            f"{where}: transformers cannot build its {model_class.__name__}: {error!r}"
        ) from error


def _stack_in(model: Any, where: str) -> Stack:
    inside = _part(model)
    count = getattr(inside.config, "num_hidden_layers", None)
    if getattr(inside.config, "num_hidden_groups", None) == 1:
        count = inside.config.inner_group_num  # ALBERT applies the same layers again and again
    for path, module in inside.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and _are_layers(module):
            home = next(name for name, one in model.named_modules() if one is inside)
            return Stack(model, inside, f"{home}." if home else "", path)
    raise BlockError(
        f"{where}: {type(model).__name__} has no list of {count} layers to take one from (its "
        "layers may share their weights, or its networks are of another kind)"
    )


def _part(model: Any) -> Any:
    """The part of a model whose layers are meant."""
    from transformers import PreTrainedModel

    config = model.config
    both = hasattr(config, "text_config") and hasattr(config, "vision_config")
    contrastive = both and hasattr(model, "logit_scale")
    wanted = None
    if contrastive:
        wanted = type(config.vision_config)
    elif getattr(config, "text_config", None) is not None:
        wanted = type(config.text_config)
    if wanted is not None:
        for module in model.modules():
            if isinstance(module, PreTrainedModel) and type(module.config) is wanted:
                return module
    if getattr(config, "is_encoder_decoder", False):
        return model.get_encoder()
    return model.base_model


def _are_layers(modules: nn.ModuleList) -> bool:
    return all(
        re.search(r"(Layer|Block)$", type(module).__name__)
        and next(module.parameters(), None) is not None
        for module in modules
    )


def norm_path(stack: Stack) -> str | None:
    """Path of the norm in the trunk that comes after the layers, None without one."""
    holder = stack.path.rpartition(".")[0]
    while True:
        place = stack.trunk.get_submodule(holder)
        for name in _NORMS:
            if "Norm" in type(getattr(place, name, None)).__name__:
                return f"{holder}.{name}" if holder else name
        if not holder:
            return None
        holder = holder.rpartition(".")[0]


def _numbers(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {
            name: _numbers(value)
            for name, value in settings.items()
            if name == "model_type" or not _WITHOUT_NUMBERS.search(name)
        }
    return settings
