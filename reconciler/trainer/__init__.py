"""The trainer: a program of its own that tunes one open model on this machine, run as ``python -m reconciler.trainer``.

The rest of the package imports :mod:`reconciler.trainer.run_files` alone, which needs none of the training libraries.
"""
