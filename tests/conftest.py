"""Properties are tested with the same examples each time, and without a deadline, because the machine may be busy.

``--hypothesis-profile thorough`` tests more examples, and ``nightly`` many that are new each time.
"""

from __future__ import annotations

import os
import signal
import sys

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=10)
settings.register_profile("thorough", settings.get_profile("repeatable"), max_examples=50)
settings.register_profile(
    "nightly", settings.get_profile("thorough"), derandomize=False, max_examples=200, print_blob=True
)
settings.load_profile("repeatable")

# A shell starts background commands with SIGINT ignored, which processes inherit: tests that interrupt would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Without bytecode, each process that a test starts compiles the package: half of its CPU time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
