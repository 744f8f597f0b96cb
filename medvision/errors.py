"""Errors that several rooms of this package raise."""


class DataError(ValueError):
    """Data are missing or wrong; the message, one line, names the path and the remedy."""

    def __init__(self, message: str) -> None:
        super().__init__(
            " ".join(part.strip() for part in message.splitlines())
        )  # libraries say more in several
