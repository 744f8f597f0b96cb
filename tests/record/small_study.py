"""The study of which this folder's tests damage the files, and whose processes they kill."""

from __future__ import annotations

from pathlib import Path


def small_spec(folder: Path, name: str, data: Path) -> Path:
    """The spec of two small plain models in two folds on the spheres, an epoch each; where it is
    stored is left to the command.
    """
    spec = folder / f"{name}.yaml"
    small = "embed_dim: 16, depth: 1, heads: 2"
    spec.write_text(f"""\
name: {name}
models: [{{label: ViT_Baseline, {small}}}, {{label: ViT_Depth, {small}}}]
tasks: [Task99_Spheres]
folds: 2
data: {{root: "{data}", image_size: [16, 16, 16], patch_size: [4, 4, 4]}}
training: {{epochs: 1, batch_size: 8}}
evaluation: {{metrics: [dice, hd95]}}
""")
    return spec
