"""Train a challenger on changed data."""
