"""Splitting stage: assign patients to train, validation and test."""
