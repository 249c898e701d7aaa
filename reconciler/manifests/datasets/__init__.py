"""Data sets: file formats, validation of examples, and how manifests declare them."""
