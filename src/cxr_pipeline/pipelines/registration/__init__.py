"""Register the model version in MLflow."""
