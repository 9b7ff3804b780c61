"""The exceptions that masterframe raises on purpose, each with the exit code of its kind.

Every message names the item, the values that are at odds, and what to do next; a traceback is for
bugs alone.
"""


class MasterframeError(Exception):
    """Something that a user can mend; the base of the family.

    Attributes
    ----------
    exit_code : int
        What the command line returns when this error ends it.
    """

    exit_code = 1


class FrameError(MasterframeError):
    """One file that cannot be used as a frame.

    Parameters
    ----------
    path : str
        The file.
    reason : str
        What is wrong with it, in words for an observer.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class PlanError(MasterframeError):
    """A product that cannot be made from the frames and masters at hand."""


class UsageError(MasterframeError):
    """Arguments that do not fit together, or name something unknown."""

    exit_code = 2


class ConfigError(UsageError):
    """A configuration file or override that is not valid; the message gives file and line."""


class MemoryLimitError(UsageError):
    """The memory given cannot hold even the smallest piece of work."""


class StorageError(MasterframeError):
    """Output that cannot be written: it exists, the disk is full, the folder is read-only."""

    exit_code = 3


class LockedError(MasterframeError):
    """Another run is working in the same output folder."""

    exit_code = 4


class ClusterLostError(MasterframeError):
    """The scheduler or all of its workers have gone."""

    exit_code = 5


class TaskLostError(MasterframeError):
    """A task whose workers died, again and again."""
