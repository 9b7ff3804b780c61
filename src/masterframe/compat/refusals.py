"""Errors that are of this package's family and of the one that scripts for ccdproc catch."""

from __future__ import annotations

from masterframe.errors import StorageError, UsageError


class ArgumentError(UsageError, ValueError):
    """An argument whose value cannot be used."""


class ArgumentTypeError(UsageError, TypeError):
    """An argument of the wrong kind, one that does not exist, or frames that do not fit."""


class OutputExistsError(StorageError, FileExistsError):
    """An output file that is there already and is not to be replaced."""
