"""The Generative Language API of the embedded service."""
