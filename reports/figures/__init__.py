"""The figures of a report, as vector and PNG."""
