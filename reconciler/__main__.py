"""``python -m reconciler`` is ``reconcile``."""

import sys

from reconciler.commands.main import main

sys.exit(main())
