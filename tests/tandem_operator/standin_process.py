"""Stands for a router or a worker in tests of the local runner: answers probes, drains, fails on demand.

Run with `--host H --port P`. Environment: STANDIN_FAIL ends it at once with that line; STANDIN_DRAIN is how
many seconds it takes to end; STANDIN_TRACE is a file that gets a line for each start and end.
"""

import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/crash":
            os._exit(7)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(" ".join([str(os.getpid()), *sys.argv[1:]]).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def trace(event: str) -> None:
    if path := os.environ.get("STANDIN_TRACE"):
        with Path(path).open("a") as file:
            file.write(f"{os.environ['POD_NAME']} {event} {os.getpid()}\n")


def main() -> None:
    if words := os.environ.get("STANDIN_FAIL"):
        sys.exit(words)
    host, port = sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    drain = float(os.environ.get("STANDIN_DRAIN", "0"))

    def leave() -> None:
        time.sleep(drain)
        server.shutdown()

    def end(number: int, frame: object) -> None:
        trace("told")
        threading.Thread(target=leave).start()

    signal.signal(signal.SIGTERM, end)
    trace("started")
    server.serve_forever(poll_interval=0.02)
    trace("ended")


if __name__ == "__main__":
    main()
