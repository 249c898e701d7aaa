"""Tuning services."""
