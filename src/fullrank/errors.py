"""Errors that a user can act on: what was wrong, what was given, what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input. The message names the argument, what was given and what is allowed.

    The command line prints the message alone and exits with code 2.
    """


def nearest(given: str, allowed: Iterable[str], n: int = 3) -> list[str]:
    """Return up to ``n`` of ``allowed`` that look most like ``given``, best first."""
    lowered = {name.lower(): name for name in allowed}
    return [lowered[m] for m in difflib.get_close_matches(given.lower(), lowered, n=n, cutoff=0.5)]


def unknown_name(
    argument: str, given: str, allowed: Iterable[str], listing: str | None = None
) -> UserError:
    """Build the error for a name that is not among the ``allowed`` ones.

    Args:
        argument: what was being named.
        given: the unknown name.
        allowed: all known names; the nearest ones are suggested.
        listing: where the known names are listed, if they are too many to print.
    """
    names = sorted(allowed)
    close = nearest(given, names)
    hint = f" Did you mean {' or '.join(repr(m) for m in close)}?" if close else ""
    if listing is None:
        listing = f"Allowed: {', '.join(names[:40])}{', …' if len(names) > 40 else ''}."
    return UserError(f"{argument}: {given!r} is not known.{hint} {listing}")
