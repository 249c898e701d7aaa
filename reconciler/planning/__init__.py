"""Pure decisions: from desired, live and recorded state to a plan."""
