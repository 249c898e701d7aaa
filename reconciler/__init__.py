"""A declarative, GitOps-style reconciler for tuned language models."""

__version__ = "0.1.0"
