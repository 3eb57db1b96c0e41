"""Which of several processes this one is."""

from __future__ import annotations

import os


def is_first_process() -> bool:
    """Say whether this process is the one that writes and prints.

    It is asked before there is a process group, so that the launcher's environment answers.
    """
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
