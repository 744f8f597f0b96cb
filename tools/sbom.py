"""docs/sbom.cdx.json: what an installation by constraints.txt consists of, as a CycloneDX bill of
materials. `python -m tools.sbom` writes it, out of the metadata of the installed packages; the
same packages give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PINS, BILL = ROOT / "constraints.txt", ROOT / "docs" / "sbom.cdx.json"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;#]+)", re.MULTILINE)
_LONGEST = 80  # characters of a licence's name; longer ones are its whole text


def pins(text: str) -> dict[str, str]:
    """Distribution -> version of a constraints file."""
    return dict(_PIN.findall(text))


def licences(name: str) -> list[str]:
    """The licences of an installed package as it declares them, in SPDX where it does; empty where
    it declares none.

    Raises:
        importlib.metadata.PackageNotFoundError: it is not installed.
    """
    about = importlib.metadata.metadata(name)
    if expressions := about.get_all("License-Expression"):
        return list(expressions)
    classifiers = [
        value.rpartition("::")[2].strip()
        for value in about.get_all("Classifier") or []
        if value.startswith("License ::")
    ]
    known = [value for value in classifiers if value not in ("OSI Approved", "DFSG approved")]
    if known:
        return known
    said = " ".join(" ".join(about.get_all("License") or []).split())
    return [said] if said and said != "UNKNOWN" and len(said) <= _LONGEST else []


def bill(text: str) -> dict[str, Any]:
    """The bill of a constraints file."""
    components = [
        _component(name, version) for name, version in sorted(pins(text).items(), key=_lower)
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.5.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "medvision"}},
        "components": components,
    }


def _lower(item: tuple[str, str]) -> str:
    return item[0].lower()


def _component(name: str, version: str) -> dict[str, Any]:
    normal = re.sub(r"[-_.]+", "-", name).lower()
    url = f"pkg:pypi/{normal}@{version}"
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": url,
        "name": name,
        "version": version,
        "purl": url,
    }
    try:
        declared = licences(name)
    except importlib.metadata.PackageNotFoundError:  # pinned for other systems or extras
        declared = []
    if declared:
        found["licenses"] = [{"license": {"name": one}} for one in declared]
    return found


def main() -> int:
    """Write the bill; 1 where an installed package has another version than its pin."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    text = PINS.read_text()
    for name, version in pins(text).items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        if installed.partition("+")[0] != version:  # torch's says for which device, too
            print(f"error: {name} {installed} is installed, and {version} pinned", file=sys.stderr)
            return 1
    BILL.write_text(f"{json.dumps(bill(text), indent=1)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
