"""The embedded service: it simulates tuning in this process."""
