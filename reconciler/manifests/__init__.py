"""Manifests, targets and data sets: read, validated, with positions."""
