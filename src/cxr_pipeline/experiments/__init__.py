"""Experiments on a task: what is overridden, measured and compared."""
