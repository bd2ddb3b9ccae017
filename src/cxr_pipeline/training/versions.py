"""Versions that a training depends on, importable without TensorFlow."""

from importlib.metadata import version

# Increase it when the same settings train differently, or when checkpoints are stored differently.
FITTING = 3
# Increase it when the same key gives other features, such as after a change of rendering or rounding.
FEATURES = 1


def training_versions() -> dict[str, str]:
    """Return the versions of the training code and of the libraries that it uses."""
    libraries = {library: version(library) for library in ("keras", "tensorflow")}
    return {"fitting": str(FITTING), "features": str(FEATURES), **libraries}
