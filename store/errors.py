"""The root of every error that a person may be shown."""

from __future__ import annotations


class Error(Exception):
    """Something that a person can act on.

    ``message`` says what is wrong and where; ``hint`` (may be empty) says what to do next. ``exit_code`` is the status
    that the command line ends with. Only the command line catches this class and prints it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
