"""The pure heart: no IO, no clock, no environment, no randomness."""
