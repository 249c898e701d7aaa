"""What all Google APIs share: HTTP, credentials, Cloud Storage."""

import sys

# httpx imports its own command line where click is installed, and with it rich and pygments: half of its import time.
# The value None in sys.modules makes the import fail, and httpx continues without it.
if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # the import system allows None
    import httpx as _httpx  # noqa: F401 - later imports find it

    del sys.modules["httpx._main"]
