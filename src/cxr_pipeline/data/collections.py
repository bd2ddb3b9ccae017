"""Public collections of chest X-rays: what they are, and their files in the folder that the sources of tasks read."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

import pooch
import yaml

from cxr_pipeline.common.errors import UserError
from cxr_pipeline.common.files import explain_damage, written_atomically
from cxr_pipeline.common.locks import RunLock
from cxr_pipeline.data.downloads import download, unpack

# A hidden folder, which no layout reads, for unfinished downloads and for the records of finished ones.
_RECORDS = ".fetched"


@dataclass(frozen=True)
class RemoteFile:
    """A file of a collection; the fields are those of ``collections.yml``."""

    name: str
    url: str
    checksum: str | None = None
    bytes: int | None = None
    unpack: str | None = None


@dataclass(frozen=True)
class Record:
    """What was downloaded: address, date (UTC), size, SHA-256, and the sizes of the unpacked files by path."""

    url: str
    date: str
    bytes: int
    sha256: str
    unpacked: dict[str, int] | None


@dataclass(frozen=True)
class Collection:
    """A public collection; the fields are those of ``collections.yml``."""

    name: str
    title: str
    path: str
    page: str
    images: str = ""
    licence: str = ""
    citation: str = ""
    terms: str | None = None
    labels: tuple[str, ...] = ()
    files: tuple[RemoteFile, ...] = field(default=(), repr=False)

    def folder(self, raw: Path) -> Path:
        """Return the folder of its files."""
        path = raw / self.path
        return path.parent if path.suffix == ".npz" else path

    @property
    def n_bytes(self) -> int | None:
        """Return the size of the download; None if it is not known."""
        sizes = [file.bytes for file in self.files]
        return None if None in sizes else sum(filter(None, sizes))

    def describe(self) -> str:
        """Return title, address, licence and citation as text of four lines."""
        return f"{self.title}\nAddress: {self.page}\nLicence: {self.licence}\nCitation: {self.citation}"


def read_collections() -> dict[str, Collection]:
    """Read the collections that the package knows.

    Example:
        >>> read_collections()["kermany"].licence
        'CC BY 4.0, https://creativecommons.org/licenses/by/4.0/'
    """
    entries = yaml.safe_load(resources.files("cxr_pipeline.data").joinpath("collections.yml").read_text("utf-8"))
    return {name: _read(name, **entry) for name, entry in entries.items()}


def _read(name: str, *, files: tuple[dict[str, Any], ...] = (), **fields: Any) -> Collection:
    return Collection(name=name, files=tuple(RemoteFile(**file) for file in files), **fields)


def fetched_collection(source: Path) -> Collection | None:
    """Return the collection that ``kedro fetch`` downloaded to the path of a source; None without a record of it."""
    for collection in read_collections().values():
        if source.match(collection.path):
            folder = collection.folder(source.parents[len(Path(collection.path).parts) - 1])
            if any(_record_file(folder, file).exists() for file in collection.files):
                return collection
    return None


def fetch(
    collection: Collection, raw: Path, *, n_archives: int | None = None, mirror: str | None = None
) -> Iterator[str]:
    """Download the files of a collection that are not there, and unpack its archives, which are then deleted.

    Interrupted downloads are resumed. Licence and citation are written beside the data.

    Args:
        collection: what to download.
        raw: the folder that the paths of sources are relative to.
        n_archives: the number of archives to download, the first ones; all of them for None.
        mirror: address that has the files at the same paths as ``raw``, to use instead of their own addresses.

    Yields:
        A line for each file: that it is complete, or that its download starts, or its unpacking if it was put there.

    Raises:
        Unavailable: a server does not answer.
        Locked: another process downloads into the same folder.
        UserError: the folder cannot be written to or has other files, the disk has too little space, or a file cannot
            be downloaded, is not the expected one, or is an archive that cannot be unpacked.
    """
    folder = collection.folder(raw)
    _check_folder(folder, collection.files)
    archives = [file for file in collection.files if file.unpack]
    omitted = archives[n_archives:] if n_archives else []
    wanted = [file for file in collection.files if file not in omitted]
    lock = RunLock(folder / _RECORDS / "lock", f"kedro fetch into {folder}")
    lock.acquire(f"kedro fetch {collection.name}")
    try:
        _write_notice(collection, folder)
        missing = [file for file in wanted if not _is_complete(folder, file)]
        _check_space(folder, missing)
        for file in wanted:
            if file not in missing:
                yield f"{file.name} is complete."
                continue
            path = folder / file.name
            url = file.url if mirror is None else f"{mirror.rstrip('/')}/{path.relative_to(raw).as_posix()}"
            url = path.as_uri() if path.exists() else url
            size = "" if file.bytes is None else f" ({format_bytes(file.bytes)})"
            yield f"Unpacking {path}" if path.exists() else f"Downloading {file.name}{size} from {url}"
            _fetch_file(folder, file, url, collection.page)
            _write_notice(collection, folder)
    finally:
        lock.release()


def format_bytes(n_bytes: int) -> str:
    """Return a size in MB or GB.

    Example:
        >>> format_bytes(2_008_470_987), format_bytes(92_416)
        ('2.0 GB', '0.1 MB')
    """
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"


def _record_file(folder: Path, file: RemoteFile) -> Path:
    return folder / _RECORDS / f"{file.name}.json"


def _read_record(folder: Path, file: RemoteFile) -> Record | None:
    path = _record_file(folder, file)
    if not path.exists():
        return None
    with explain_damage(path, "Delete it and run the same command again."):
        return Record(**json.loads(path.read_text("utf-8")))


def _checksum(folder: Path, file: RemoteFile) -> str | None:
    """Return the published checksum, or that of an earlier download."""
    record = _read_record(folder, file)
    return file.checksum or (None if record is None else f"sha256:{record.sha256}")


def _is_complete(folder: Path, file: RemoteFile) -> bool:
    """Return whether a file is there with its checksum, or all that was unpacked from it, with the same sizes."""
    path, checksum = folder / file.name, _checksum(folder, file)
    if path.exists() and not pooch.hashes.hash_matches(str(path), checksum):
        raise UserError(
            f"{path} is damaged, or not the file of this collection: expected the checksum {checksum}. Move or delete "
            "it, and run the same command again."
        )
    if file.unpack is None:
        return path.exists()
    record = _read_record(folder, file)
    sizes = {} if record is None else {folder / name: size for name, size in (record.unpacked or {}).items()}
    return bool(sizes) and all(path.is_file() and path.stat().st_size == size for path, size in sizes.items())


def _check_folder(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Raise `UserError` if archives would be unpacked over files that were put there in another way."""
    if any(file.unpack for file in files) and folder.exists() and not (folder / _RECORDS).exists():
        others = {path.name for path in folder.iterdir()} - {file.name for file in files}
        if others:
            raise UserError(
                f"{folder} has files that kedro fetch did not download, such as {min(others)}. Move them, or choose "
                "another folder: --raw DIR"
            )


def _check_space(folder: Path, missing: list[RemoteFile]) -> None:
    there = sum(path.stat().st_size for path in (folder / _RECORDS).iterdir())
    # An archive and the files in it, which are about as large, are on the disk at the same time.
    largest = max((file.bytes or 0 for file in missing if file.unpack), default=0)
    needed = sum(file.bytes or 0 for file in missing) + largest - there
    if needed > (free := shutil.disk_usage(folder).free):
        raise UserError(
            f"{folder} needs about {format_bytes(needed)} of free disk space; found {format_bytes(free)}. Free some, "
            "or choose a folder on another disk: --raw DIR"
        )


def _fetch_file(folder: Path, file: RemoteFile, url: str, page: str) -> None:
    by_hand, downloaded = folder / file.name, folder / _RECORDS / file.name
    try:
        if by_hand.exists():  # only an archive: another file would be complete
            by_hand.replace(downloaded)
        download(url, downloaded, checksum=_checksum(folder, file), page=page, by_hand=by_hand)
        size, sha256 = downloaded.stat().st_size, pooch.file_hash(str(downloaded))
        unpacked = None if file.unpack is None else unpack(downloaded, folder, inside=file.unpack)
        record = Record(url, datetime.now(UTC).isoformat(timespec="seconds"), size, sha256, unpacked)
        with written_atomically(_record_file(folder, file)) as temporary:
            temporary.write_text(json.dumps(asdict(record)) + "\n", "utf-8")
        if unpacked is None:
            downloaded.replace(by_hand)
        else:
            downloaded.unlink()
    except OSError as error:
        raise UserError(
            f"{error.filename or folder} could not be written: {error.strerror or error}. Expected a writable folder "
            "with free disk space. Correct this and run the same command again: it resumes."
        ) from error


def _write_notice(collection: Collection, folder: Path) -> None:
    """Write licence, citation and what was downloaded, as text."""
    lines = [collection.describe(), ""]
    for file in collection.files:
        record = _read_record(folder, file)
        if record is not None:
            lines += [f"{file.name}: {record.bytes:,} bytes, {record.date}, {record.url}", f"  SHA-256 {record.sha256}"]
            lines += [f"  Checked against {file.checksum}" if file.checksum else "  No published checksum is known."]
    with written_atomically(folder / f"{collection.name}.txt") as temporary:
        temporary.write_text("\n".join(lines) + "\n", "utf-8")
