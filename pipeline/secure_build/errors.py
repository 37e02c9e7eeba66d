"""Every way a run can end badly, and its exit code.

The base class is what the command line catches. A message says what happened and why; `hint` says
what to do next. Anything else that reaches the command line is a bug and ends with 70.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class SecureBuildError(Exception):
    """A problem that is explained to the user without a traceback."""

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RefusedError(SecureBuildError):
    """Something was checked, or built, and the answer is no."""

    exit_code = 1


class UsageError(SecureBuildError):
    """The command line, the config or a file that it names is wrong."""

    exit_code = 2


class AbsentKeyError(UsageError):
    """A key or identity is not here: no mistake where nothing is to be signed with it."""


class MachineError(SecureBuildError):
    """A tool or a permission of this machine is missing."""

    exit_code = 3


class ServiceError(SecureBuildError):
    """A service failed, after retries where a retry could help."""

    exit_code = 4


class StoppedError(SecureBuildError):
    """Work that was given up because the run is ending; the reason is another exception."""
