"""Output for terminals and logs."""
