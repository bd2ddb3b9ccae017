"""Metrics with intervals, calibration, thresholds, decision rules, and explanations of a model."""
