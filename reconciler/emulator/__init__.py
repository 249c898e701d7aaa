"""The embedded service: the real wire format over SQLite, with simulated training."""
