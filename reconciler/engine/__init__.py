"""Observe, plan, apply, wait and record, over the ports of the domain."""
