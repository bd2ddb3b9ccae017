"""Experiments on a task: overridden parameters, runs, and comparison of results."""
