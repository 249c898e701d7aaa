"""The Generative Language API."""
