"""What a config.json says of quantised weights, and whether they can be read
(`medvision.llm.quantised`). Imports no torch: a dry run asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def quantisation(config: Mapping[str, Any]) -> Any:
    """What a config.json says of a quantisation; None or empty where the weights are plain.

    Tools write null, {} or bitsandbytes with both switches off for a model that is not quantised.
    """
    inner = config.get("text_config")
    for one in (config, inner if isinstance(inner, Mapping) else {}):
        how = one.get("quantization_config") or one.get("compression_config")
        if isinstance(how, Mapping) and how.get("quant_method", "bitsandbytes") == "bitsandbytes":
            switches = [how[name] for name in ("load_in_8bit", "load_in_4bit") if name in how]
            if switches and not any(switches):
                how = None
        if how:
            return how
    return None


def refusal(how: Any) -> str:
    """Why weights that are quantised like this cannot be read; "" where they can.

    Args:
        how: `quantization_config` of a config.json.
    """
    if not isinstance(how, Mapping):
        return "it does not say how"
    method, bits = str(how.get("quant_method", "bitsandbytes")), how.get("bits")
    if method in ("bitsandbytes", "fp8", "fbgemm_fp8"):
        return ""
    if method == "gptq":
        return "" if bits in (2, 4, 8) else f"gptq of {bits} bits, not 2, 4 or 8"
    if method == "awq":
        layout = str(how.get("version", "gemm")).lower()
        good = bits == 4 and layout == "gemm"
        return "" if good else f"awq of {bits} bits in the layout {layout}, not 4 bits and gemm"
    if method == "compressed-tensors":
        layout = str(how.get("format"))
        return "" if layout == "float-quantized" else f"compressed-tensors in the format {layout}"
    return f"{method}, of which no reader is here"
