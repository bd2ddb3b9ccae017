"""Models in use: scoring, serving, drift, promotion and lineage."""
