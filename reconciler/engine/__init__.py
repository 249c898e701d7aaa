"""Observe, plan, apply, wait, record: asynchronous, over the ports of the core alone."""
