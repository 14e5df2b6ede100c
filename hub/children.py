"""Child processes that must not outlive a parent that was killed."""

import ctypes
import signal
import sys

# Loaded before the fork: after it only the simplest things are safe.
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """For `preexec_fn`: have the kernel end the child when its parent is killed (where the kernel is Linux); it would
    keep its port, and nobody would know. Start such a child from the main thread: it ends with the thread, too."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
