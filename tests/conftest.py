"""Properties are tried on the same examples each time, and may take their time on a busy machine.

With ``HYPOTHESIS_PROFILE=thorough`` there are more of them.
"""

from __future__ import annotations

import os
import signal

from hypothesis import settings

settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=30)
settings.register_profile("thorough", settings.get_profile("repeatable"), max_examples=100)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# A shell starts background commands with SIGINT ignored, which processes inherit: tests that interrupt would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)
