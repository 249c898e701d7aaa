"""Vertex AI tuning jobs."""
