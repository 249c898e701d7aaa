"""The lockfile and what else is saved: formats, merging, refresh, stores."""
