"""A web server of files that can fail in the ways that servers of data sets do."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves ``files``, by path, at ``url``, and counts the bytes that it sends; the attributes may be changed."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.ranges = True
        self.cut_after: int | None = None  # bytes of a body after which the connection is closed
        self.status: int | None = None
        self.content_type = "application/octet-stream"
        self.pause = 0.0  # seconds between blocks of 64 KiB
        self.n_sent = 0
        self.url = ""

    def body(self, path: str, asked: str | None) -> tuple[int, str | None, bytes]:
        """Return the status, the Content-Range and the body."""
        if self.status or path not in self.files:
            return self.status or 404, None, b""
        content = self.files[path]
        if asked is None or not self.ranges:
            return 200, None, content
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= len(content):
            return 416, f"bytes */{len(content)}", b""
        return 206, f"bytes {start}-{len(content) - 1}/{len(content)}", content[start:]


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve files on a free port."""
    state = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, content_range, body = state.body(self.path, self.headers["Range"])
            self.send_response(status)
            self.send_header("Content-Type", state.content_type)
            self.send_header("Content-Length", str(len(body)))
            if content_range:
                self.send_header("Content-Range", content_range)
            self.end_headers()
            body = body if state.cut_after is None else body[: state.cut_after]
            for start in range(0, len(body), 2**16):
                # Counted first, because the client may end before this thread goes on.
                state.n_sent += len(body[start : start + 2**16])
                self.wfile.write(body[start : start + 2**16])
                time.sleep(state.pause)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield state
        server.shutdown()
