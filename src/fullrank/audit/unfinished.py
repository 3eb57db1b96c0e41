"""What could not be done of an audit; what was done before and after it is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fullrank.errors import UserError

if TYPE_CHECKING:
    from fullrank.audit.found import Audits

INTERRUPTED = "interrupted before it was measured"


@dataclass(frozen=True)
class Failure:
    """Something that was asked for and could not be done.

    Attributes:
        what: whose; None concerns all (the ranking).
        error: why, in one line.
        place: of a WHAT that could not be measured among those given, from 0; None where it was
            measured, and something beside it (its drift, its reference) could not be done.
    """

    what: str | None
    error: str
    place: int | None = None

    @property
    def line(self) -> str:
        """Why, with the name of what it is about."""
        if self.what is None or self.what in self.error:
            return self.error
        return f"{self.what}: {self.error}"


class AuditError(UserError):
    """Not all of an audit could be done; what could is attached.

    Attributes:
        audits: what was found, and under ``failures`` what could not be done.
        unexpected: the first error that is no mistake of the user's, where there is one.
    """

    def __init__(self, audits: Audits, unexpected: Exception | None = None) -> None:
        lines = [failure.line for failure in audits.failures]
        several = f"{len(lines)} things could not be done:\n  " if len(lines) > 1 else ""
        super().__init__(several + "\n  ".join(lines))
        self.audits, self.unexpected = audits, unexpected


class AuditInterrupted(KeyboardInterrupt):
    """An audit was interrupted by the user after it had found something, which is attached.

    Attributes:
        audits: what was found until then.
    """

    def __init__(self, audits: Audits) -> None:
        super().__init__(f"{len(audits.audits)} audited")
        self.audits = audits


class Attempts:
    """Goes on after errors, and keeps them.

    Args:
        whats: everything that is audited; the error of a single one is raised as it is.
        tell: is told of each WHAT that is gone on without.

    Attributes:
        failures: what could not be done, in the order in which it was tried.
        unexpected: the first error that was no ``UserError``.
    """

    def __init__(self, whats: Sequence[str], tell: Callable[[str], None]) -> None:
        self._whats, self._tell = whats, tell
        self.failures: list[Failure] = []
        self.unexpected: Exception | None = None

    @contextmanager
    def at(self, what: str | None, place: int | None = None) -> Iterator[None]:
        """Keep an error of what is done inside as a :class:`Failure`."""
        try:
            yield
        except Exception as error:
            if place is not None and len(self._whats) == 1:
                raise  # there is nothing else to keep
            message = str(error)
            if not isinstance(error, UserError):
                self.unexpected = self.unexpected or error
                message = f"{type(error).__name__}: {' '.join(message.split())[:300]}"
            self.failures.append(Failure(what, message, place))
            if place is not None:
                self._tell(f"going on without {what}")

    def interrupted(self, measured: int) -> None:
        """Note that nothing was done after the first ``measured`` that could be."""
        tried = {failure.place for failure in self.failures}
        left = [place for place in range(len(self._whats)) if place not in tried]
        for place in left[measured:]:
            self.failures.append(Failure(self._whats[place], INTERRUPTED, place))
