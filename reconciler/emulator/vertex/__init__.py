"""Vertex AI of the embedded service."""
