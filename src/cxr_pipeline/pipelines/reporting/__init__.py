"""Draw the figures of a task and write its report and model card."""
