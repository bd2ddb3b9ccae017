"""``DriftProfileDataset`` keeps the profile that drift is measured against."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

if TYPE_CHECKING:
    from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile


class DriftProfileDataset(AbstractDataset["ReferenceProfile", "ReferenceProfile"]):
    """A profile in one ``.npz`` file, without pickles.

    Args:
        filepath: path of the file.
        metadata: kept for plugins, such as the layer for kedro-viz.

    Example:
        >>> dataset = DriftProfileDataset(filepath=tmp_path / "drift_profile.npz")  # doctest: +SKIP
        >>> dataset.save(profile)  # doctest: +SKIP
        >>> dataset.load().outputs  # doctest: +SKIP
        ('effusion',)
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> "ReferenceProfile":
        """Read the profile."""
        from cxr_pipeline.deployment.drift.reference_profile import ReferenceProfile

        return ReferenceProfile.load(self._filepath)

    def save(self, data: "ReferenceProfile") -> None:
        """Write the profile."""
        data.save(self._filepath)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
