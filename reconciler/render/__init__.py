"""Documents drawn for people and for programs."""
