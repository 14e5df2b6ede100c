"""The server's processes: replaced when they die, gone when their parent is, and polite when asked to stop."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

STUB = """
    import asyncio, os

    def create_app():
        async def application(scope, receive, send):
            if scope["type"] == "lifespan":
                while True:
                    message = await receive()
                    await send({"type": message["type"] + ".complete"})
                    if message["type"] == "lifespan.shutdown":
                        return
            if scope["path"] == "/slow":
                await asyncio.sleep(1.5)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(os.getpid()).encode()})
        return application
"""
RUN = """
    import sys
    from hub import server
    server.APP = "stub:create_app"
    server.run("127.0.0.1", int(sys.argv[1]), 2)
"""


class Service:
    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (folder / "stub.py").write_text(textwrap.dedent(STUB))
        self.command = [sys.executable, "-c", textwrap.dedent(RUN), str(self.port)]
        self.folder = folder
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self.command, env={**os.environ, "PYTHONPATH": str(self.folder)})

    def answer(self, path: str = "/") -> int:
        """The pid of the process that answers."""
        return int(httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10).text)

    def await_answer(self, wanted: Callable[[int], bool] = lambda pid: True) -> int:
        deadline = time.monotonic() + 30
        while True:
            try:
                pid = self.answer()
                if wanted(pid):
                    return pid
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline, "the service did not answer in time"
            time.sleep(0.05)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Service]:
    service = Service(tmp_path)
    service.await_answer()
    yield service
    service.process.terminate()
    service.process.wait(30)


@pytest.mark.fault
def test_processes_that_are_killed_again_and_again_are_replaced(stub: Service) -> None:
    for _ in range(6):
        pid = stub.await_answer()
        os.kill(pid, signal.SIGKILL)
        stub.await_answer(lambda other, pid=pid: other != pid)  # type: ignore[misc]
    assert stub.process.poll() is None


@pytest.mark.fault
def test_a_killed_parent_takes_its_processes_along(stub: Service) -> None:
    before = stub.await_answer()
    stub.process.kill()
    stub.process.wait(10)
    deadline = time.monotonic() + 10
    while True:
        try:
            stub.answer()
        except httpx.TransportError:
            break
        assert time.monotonic() < deadline, "orphans still hold the port"
        time.sleep(0.05)
    stub.process = stub.start()
    assert stub.await_answer() != before


def test_a_request_in_flight_is_answered_before_it_stops(stub: Service) -> None:
    with socket.create_connection(("127.0.0.1", stub.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        time.sleep(0.5)  # long enough to arrive, shorter than the answer takes
        stub.process.send_signal(signal.SIGTERM)
        assert client.recv(100).startswith(b"HTTP/1.1 200")
    assert stub.process.wait(20) == 0


def test_an_application_that_cannot_be_made_ends_it(stub: Service, tmp_path: Path) -> None:
    (tmp_path / "stub.py").write_text("def create_app(): raise RuntimeError('cannot')")
    stub.process.terminate()
    stub.process.wait(20)
    stub.process = stub.start()
    assert stub.process.wait(60) != 0
