"""Open models that are tuned on this machine: run folders in a store, and detached processes that train in them."""
