"""Records of what each file was made from, to stop a run that would combine files of different runs."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import written_atomically

# Keras writes the time of saving into this member, so that equal models give different files.
_TIMESTAMPED = "metadata.json"


@dataclass(frozen=True)
class Origin:
    """Digest of a saved dataset, and of all datasets that it was made from, directly or indirectly."""

    digest: str
    inputs: Mapping[str, str]


class Origins:
    """The origins of the datasets of a task, kept in a JSON file. A missing or damaged file is an empty record.

    Example:
        >>> origins = Origins(tmp_path / "origins.json")
        >>> origins.add("model", "5f3a", inputs={"images": "11aa"})
        >>> origins.check({"model": "5f3a", "images": "22bb"})
        Traceback (most recent call last):
        ...
        cxr_pipeline.common.errors.UserError: model was made from another version of images (11aa) than the current \
one (22bb).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            entries = json.loads(path.read_text(encoding="utf-8"))
            self._origins = {name: _origin_from(**entry) for name, entry in entries.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            self._origins = {}

    def add(self, name: str, digest: str, inputs: Mapping[str, str]) -> None:
        """Record a dataset that was just saved, with what `check` returned for its inputs."""
        self._origins[name] = Origin(digest, dict(inputs))
        with written_atomically(self._path) as temporary:
            temporary.write_text(json.dumps({name: asdict(origin) for name, origin in self._origins.items()}, indent=1))

    def check(self, inputs: Mapping[str, str]) -> dict[str, str]:
        """Check that datasets, given by their current digests, were made from the same versions of all that they share.

        A dataset without a record, such as one that a user provided, passes.

        Returns:
            The digests of the datasets and of all datasets that they were made from, by name.

        Raises:
            UserError: two versions of a dataset were used, or a dataset has changed since it was recorded.
        """
        digests = dict(inputs)
        user = {name: name for name in inputs}
        for name, digest in inputs.items():
            origin = self._origins.get(name)
            if origin is None:
                continue
            if origin.digest != digest:
                change = f"{origin.digest:.8}, now {digest:.8}"
                raise UserError(f"{name} has changed since a run recorded its origin ({change}).")
            for ancestor, version in origin.inputs.items():
                other, current = user.setdefault(ancestor, name), digests.setdefault(ancestor, version)
                if current == version:
                    continue
                if other == ancestor:
                    mine = f"{name} was made from another version of {ancestor} ({version:.8})"
                    raise UserError(f"{mine} than the current one ({current:.8}).")
                both = f"{other} and {name} were made from different versions of {ancestor}"
                raise UserError(f"{both} ({current:.8} and {version:.8}).")
        return digests


def _origin_from(digest: object, inputs: Mapping[str, object]) -> Origin:
    """Return the origin of a JSON file, of which a user may have changed the values."""
    return Origin(str(digest), {name: str(value) for name, value in inputs.items()})


def content_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of all files in a folder, in hexadecimal digits.

    That of a ``.keras`` archive covers the content of its members, not the time of saving.
    """
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(entry for entry in path.iterdir() if entry.is_file()):
            digest.update(f"{file.name} {content_digest(file)}\n".encode())
    elif path.suffix == ".keras" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for member in sorted(archive.namelist()):
                if member != _TIMESTAMPED:
                    digest.update(f"{member} {hashlib.sha256(archive.read(member)).hexdigest()}\n".encode())
    else:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    return digest.hexdigest()
