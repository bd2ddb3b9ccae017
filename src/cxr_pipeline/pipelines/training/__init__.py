"""Fit the network."""
