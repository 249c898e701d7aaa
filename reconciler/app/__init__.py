"""The composition root: the only place that names concrete classes, one function a command."""
