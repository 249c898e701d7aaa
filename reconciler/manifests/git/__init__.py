"""Manifests and data sets as they are in the git history."""
