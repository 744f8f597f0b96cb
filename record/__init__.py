"""The record of a study on disk: files, paths, schema, lock. The ground floor: every package
imports it, it imports none.
"""
