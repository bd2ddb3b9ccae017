"""Plots, one module for each kind."""
