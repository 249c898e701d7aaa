"""Cloud Storage of the embedded service."""
