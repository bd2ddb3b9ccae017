"""Figures, reports, model cards and the other pages of a run."""
