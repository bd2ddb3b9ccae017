"""Everything that the project reads from MLflow and writes to it."""
