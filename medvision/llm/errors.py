"""The one exception of this package."""


class BlockError(ValueError):
    """A block cannot be found, read or used; the message says what is wrong, where, and what
    helps.
    """
