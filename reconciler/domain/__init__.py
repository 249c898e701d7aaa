"""Values, ports and identity; imports nothing else of this package."""
