"""The reader of specs under its first name, for scripts outside of this repository."""

from orchestrator.spec.yaml_file import SpecError, dump, load_spec

__all__ = ["SpecError", "dump", "load_spec"]
