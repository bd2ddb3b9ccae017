"""Downloads that go on where an earlier one stopped, and archives that are unpacked into a folder and nowhere else."""

import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

import pooch
import requests

from cxr_pipeline.common.errors import Unavailable, UserError
from cxr_pipeline.common.files import explain_damage
from cxr_pipeline.common.progress import open_with_progress, progress_bar
from cxr_pipeline.data.sources.table_files import check_expansion

_CHUNK = 2**16
_TIMEOUT_SECONDS = 30
_PAUSE_SECONDS = 1
_MAX_FILES = 10**6
# Images are compressed already. No image file of more bytes is read, see docs/guides/layouts.md.
_MAX_EXPANSION, _MAX_FILE_BYTES = 2, 2**28
_INTERRUPTED = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
_TOO_MANY_REQUESTS, _SERVER_ERROR = 429, 500


@dataclass(frozen=True)
class ResumingDownloader:
    """A downloader for ``pooch``, which has none that resumes: it keeps what has arrived in the file ``part``."""

    part: Path

    def __call__(self, url: str, output_file: str, _: Any) -> None:
        """Download the rest of ``url``, and copy all of it to ``output_file``.

        An interrupted transfer goes on as long as each attempt receives something.
        """
        while True:
            before = self._n_bytes()
            try:
                self._receive(url)
                break
            except _INTERRUPTED:
                if self._n_bytes() <= before:
                    raise
                time.sleep(_PAUSE_SECONDS)
        # Not moved: pooch deletes its file if it is interrupted while it computes the checksum.
        Path(output_file).unlink()
        try:
            os.link(self.part, output_file)
        except OSError:  # a file system without hard links
            shutil.copyfile(self.part, output_file)

    def _n_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _receive(self, url: str) -> None:
        n_bytes = self._n_bytes()
        # A server that compresses the answer once more would count its bytes differently.
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={n_bytes}-"} if n_bytes else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
            if n_bytes and response.status_code == requests.codes.requested_range_not_satisfiable:
                if not response.headers.get("Content-Range", "").endswith(f"/{n_bytes}"):  # not complete, but too long
                    self.part.unlink()
                    self._receive(url)
                return
            response.raise_for_status()
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise requests.HTTPError("a web page", response=response)
            # A server may ignore the range and send all of it.
            self._append(response, n_bytes if response.status_code == requests.codes.partial_content else 0)

    def _append(self, response: requests.Response, n_bytes: int) -> None:
        length = response.headers.get("Content-Length")
        total = None if length is None else n_bytes + int(length)
        with (
            self.part.open("ab" if n_bytes else "wb") as file,
            progress_bar(self.part.stem, total, completed=n_bytes, unit="bytes") as update,
        ):
            for chunk in response.iter_content(_CHUNK):
                file.write(chunk)
                update(advance=len(chunk))


def download(url: str, target: Path, *, checksum: str | None, page: str, by_hand: Path) -> None:
    """Download a file unless it is there, or the rest of it if an earlier download was interrupted.

    Args:
        url: address of the file.
        target: its path. What has arrived of it is kept beside it, as ``.part``.
        checksum: such as ``md5:28209eda62fecd6e6a2d98b1501bb15f``, None if it is not known.
        page: address at which a person finds the file.
        by_hand: the path under which a person has to save it, for messages.

    Raises:
        Unavailable: the server does not answer, or ended the transfer.
        UserError: there is no such file at the address, or another one.
    """
    advice = f"Look at {page} in a browser, save the file as {by_hand}, and run the same command again."
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    for leftover in target.parent.glob("tmp*"):  # of pooch, if the process was killed
        leftover.unlink()
    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(url, checksum, target.name, target.parent, downloader=ResumingDownloader(part))
    except requests.HTTPError as error:
        assert error.response is not None
        status = error.response.status_code
        found = f"{url} answers with {status} {error.response.reason}"
        if status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR:
            raise Unavailable(f"{found}. Run the same command again later: it resumes.") from error
        found = f"{url} answers with a web page" if error.response.ok else found
        raise UserError(f"{found}; expected the file {target.name}. {advice}") from error
    except _INTERRUPTED as error:
        arrived = f"{part.stat().st_size:,} bytes have arrived. " if part.exists() else ""
        raise Unavailable(
            f"The download of {url} was interrupted or the server does not answer ({_innermost(error)}). {arrived}Run "
            "the same command again: it resumes."
        ) from error
    except requests.RequestException as error:
        raise UserError(f"{url} cannot be downloaded: {error}. {advice}") from error
    except ValueError as error:
        found = pooch.file_hash(str(part), alg=pooch.hashes.hash_algorithm(checksum)) if part.exists() else "unknown"
        part.unlink(missing_ok=True)
        raise UserError(
            f"{url} is not the expected file: its checksum is {found}; expected {checksum}. It was deleted. Run the "
            f"same command again; if that does not help, the file was replaced at its address: see {page}"
        ) from error
    part.unlink(missing_ok=True)


def _innermost(error: BaseException) -> str:
    """Return what happened, without the names of classes and objects around it."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error)


def unpack(archive: Path, folder: Path, *, inside: str = ".") -> dict[str, int]:
    """Unpack the files of a folder of a zip or tar archive into ``folder``, except hidden ones.

    Returns:
        The sizes of the files in bytes, by their paths below ``folder``.

    Raises:
        UserError: the archive cannot be read, has a path that leads out of the folder, a link or a device, more than
            a million files, a file of more than 256 MiB, or expands to more than 64 MiB and twice its size.
    """
    sizes: dict[str, int] = {}
    for path, content in _files_of(archive):
        if not path.is_relative_to(inside) or any(part.startswith(".") for part in path.parts):
            continue
        target = folder / path.relative_to(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        sizes[str(path.relative_to(inside))] = len(content)
    if not sizes:
        raise UserError(f"{archive} has no files in its folder {inside}. Delete it and run the same command again.")
    return sizes


def _files_of(archive: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Yield the paths and contents of all files, after checks of both."""
    size, n_files, n_bytes = archive.stat().st_size, 0, 0
    with explain_damage(archive, "Nothing was unpacked out of its folder. Delete it and run the same command again."):
        for name, opened in _open_files(archive):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
                raise ValueError(f"{name!r} in it leads out of the folder")
            content = opened.read(_MAX_FILE_BYTES + 1)
            n_files, n_bytes = n_files + 1, n_bytes + len(content)
            check_expansion(n_bytes, size, factor=_MAX_EXPANSION)
            if len(content) > _MAX_FILE_BYTES or n_files > _MAX_FILES:
                raise ValueError(f"it has files of more than {_MAX_FILE_BYTES:,} bytes, or more than {_MAX_FILES:,}")
            yield path, content


def _open_files(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with open_with_progress(archive, f"Unpacking {archive.name}") as file:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(file) as entries:
                for entry in entries.infolist():
                    if not entry.is_dir():
                        with entries.open(entry) as content:
                            yield entry.filename, content
            return
        with tarfile.open(fileobj=file) as members:
            for member in members:
                opened = members.extractfile(member) if member.isfile() else None
                if opened is not None:
                    yield member.name, opened
                elif not member.isdir():
                    raise ValueError(f"{member.name!r} in it is a link or a device")
