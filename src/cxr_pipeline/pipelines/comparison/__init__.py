"""The comparison of models of all tasks."""
