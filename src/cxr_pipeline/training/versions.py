"""What decides a training beside its settings and images, for those who must know it without TensorFlow."""

from importlib.metadata import version

# Raised when the same settings would train another way.
FITTING = 2
# Raised when the same key would give other features: another rendering, another rounding.
FEATURES = 1


def training_versions() -> dict[str, str]:
    """Versions of the code and of the libraries that train."""
    libraries = {library: version(library) for library in ("keras", "tensorflow")}
    return {"fitting": str(FITTING), "features": str(FEATURES), **libraries}
