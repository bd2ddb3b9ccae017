"""Shared basics of all packages: errors, atomic files, locks, provenance, nested mappings."""
