"""Fit calibration and threshold on the validation images."""
