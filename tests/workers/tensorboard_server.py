"""A TensorBoard server on loopback for the duration of a test."""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Get = Callable[..., Any]

_WAIT = 0.25  # seconds between two attempts


@contextmanager
def tensorboard_server(logdir: str | Path, tags: Sequence[str] = (), tries: int = 240) -> Iterator[Get]:
    """Serve `logdir` and yield `get(path, **query)`, which returns parsed JSON, or bytes of anything else.

    The server is ready when its API lists each of `tags` among its scalars or images.

    Args:
        logdir: Folder of event files.
        tags: Tags to wait for.
        tries: Number of attempts, 0.25 s apart, before a RuntimeError.
    """
    with tempfile.TemporaryFile("w+") as output:
        command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", "127.0.0.1"]
        command += ["--port", "0", "--load_fast=false", "--reload_interval", "1"]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=_environment())
        try:
            address = _until(lambda: _address(output.fileno()), server, output.fileno(), tries)

            def get(path: str, **query: str) -> Any:
                return _get(address + path + ("?" + urllib.parse.urlencode(query) if query else ""))

            _until(lambda: set(tags) <= _tags(get), server, output.fileno(), tries)
            yield get
        finally:
            server.kill()
            server.wait()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}


def _written(file: int) -> str:
    return os.pread(file, 1 << 20, 0).decode(errors="replace")


def _address(file: int) -> str | None:
    """Find the address in `TensorBoard 2.21.0 at http://127.0.0.1:41235/ (Press CTRL+C to quit)`."""
    words = _written(file).split()
    return next((word.rstrip("/") for word in words if word.startswith("http://127.0.0.1:")), None)


def _get(url: str) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy does not know our loopback
    with opener.open(url, timeout=20) as answer:
        body = answer.read()
        return json.loads(body) if "json" in answer.headers.get_content_type() else body


def _tags(get: Get) -> set[str]:
    runs = [*get("/data/plugin/scalars/tags").values(), *get("/data/plugin/images/tags").values()]
    return {tag for run in runs for tag in run}


def _until(look: Callable[[], Any], server: subprocess.Popen[bytes], file: int, tries: int) -> Any:
    for _ in range(tries):
        if server.poll() is not None:
            break
        if found := look():
            return found
        time.sleep(_WAIT)
    raise RuntimeError(f"TensorBoard did not get ready; it wrote: {_written(file)}")
