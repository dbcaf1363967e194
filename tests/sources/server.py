"""An HTTP server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import http.server
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATE = Path(__file__).with_name("server.pem")


@dataclass
class Server:
    """``files`` by path; ``tricks`` by path, a list of what to do at the next requests, before it behaves again."""

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tricks: dict[str, list[str]] = field(default_factory=dict)
    log: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    etag: str = '"1"'
    on_request: Callable[[str], None] = lambda path: None

    def requests(self, path: str) -> list[dict[str, str]]:
        return [headers for asked, headers in self.log if asked == path]


@contextlib.contextmanager
def serve(*, safe: bool = False, certificate: Path = CERTIFICATE) -> Iterator[Server]:
    """Runs one, with the key and certificate of a file if it is to be ``safe``."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.log.append((self.path, {name.title(): value for name, value in self.headers.items()}))
            state.on_request(self.path)
            tricks = state.tricks.get(self.path, [])
            trick = tricks.pop(0) if tricks else ""
            if trick == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            if trick.isdigit():
                self.answer(int(trick), b"no")
                return
            if trick.startswith("to "):
                self.answer(302, b"", {"Location": trick[3:]})
                return
            data = state.files.get(self.path)
            if data is None:
                self.answer(404, b"no such file")
                return
            start = 0
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            same = self.headers.get("If-Range", state.etag) == state.etag
            if state.ranges and match and same:
                start = int(match[1])
                if start >= len(data):
                    self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    return
            headers = {"ETag": state.etag}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
            if trick == "wrong range":
                headers["Content-Range"] = f"bytes 0-{len(data) - 1}/{len(data)}"
            self.answer(206 if start else 200, data[start:], headers, cut=trick == "cut")

        def answer(self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        # A client that hangs up is what many of these tests are about.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if safe:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        state.base = f"http{'s' if safe else ''}://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()
