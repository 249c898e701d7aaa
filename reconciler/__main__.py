"""``python -m reconciler`` is ``reconcile``."""

import sys

from reconciler.cli.main import main

sys.exit(main())
