"""Placeholders for other files: what a clone without its large files holds, or a page instead of a
download. No heavy import.
"""

from __future__ import annotations

import re

HEAD = 1024  # bytes that `placeholder` wants; pointers are shorter

# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md; hawser is its name before version 1
_LFS = re.compile(
    rb"version https?://(git-lfs|hawser)\.github\.com/spec/.*?(^size (?P<size>\d+)$|\Z)",
    re.S | re.M,
)
_XET = re.compile(rb"# xet version .*?(^filesize = (?P<size>\d+)$|\Z)", re.S | re.M)
# https://git-annex.branchable.com/internals/pointer_file/
_ANNEX = re.compile(rb"/annex/objects/|(\.\./)*\.git/annex/objects/")
# https://www.rfc-editor.org/rfc/rfc1740, AppleDouble: what macOS keeps next to a file elsewhere
_APPLE = b"\x00\x05\x16\x07"
_PAGE = re.compile(rb"\s*(<!doctype html|<html|<head)", re.I)


def placeholder(head: bytes) -> str | None:
    """What the file that starts with `head` is instead of itself, and what to do; None for others.

    Args:
        head: its first bytes, up to `HEAD`.

    Returns:
        The rest of a sentence about the file: `is a Git LFS pointer ...: run ...`.
    """
    if found := _LFS.match(head) or _XET.match(head):
        kind = "Xet" if head.startswith(b"#") else "Git LFS"
        how = "git xet" if head.startswith(b"#") else "git lfs"
        size = f" to a file of {int(found['size']):,} bytes" if found["size"] else ""
        return (
            f"is a {kind} pointer{size}, not the file itself: run `{how} pull` in its repository, "
            "or download the file"
        )
    if _ANNEX.match(head):
        return "is a git-annex pointer, not the file itself: run `git annex get` or `datalad get`"
    if head.startswith(_APPLE):
        return (
            "is a macOS resource fork, not the file itself: remove it; the file is called so "
            "without `._`"
        )
    if _PAGE.match(head):
        return (
            "is a web page, not the file itself: the download led to a page (of an error, a login "
            "or a licence); download it again"
        )
    return None
