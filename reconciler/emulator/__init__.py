"""The embedded service: the real wire format, with simulated training."""
