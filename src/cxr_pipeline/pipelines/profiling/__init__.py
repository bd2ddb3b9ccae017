"""Build the reference profile for drift detection."""
