"""A small HTTP service of our own on a free port: answers what a test says, counts what it is asked, may be slow.

``php_soap_service`` runs PHP's SoapServer, a SOAP stack that is not ours.
"""

import shutil
import socket
import subprocess
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.ports import free_port

HERE = "127.0.0.1"


@dataclass
class Answer:
    """What the service says to a request."""

    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    wait_s: float = 0.0
    drip_s: float = 0.0
    cut_at: int | None = None


class Service:
    """The running service."""

    def __init__(self) -> None:  # noqa: C901 (the handler is a class of this one service)
        self.answer = lambda method, path, headers, body: Answer()  # noqa: ARG005
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.asked_at: list[float] = []
        self.connections = 0
        self.refusing = False
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(OSError):
                    super().handle_one_request()

            def do_GET(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                headers = {name.lower(): value for name, value in self.headers.items()}
                service.asked.append((self.command, self.path, headers, body))
                service.asked_at.append(time.monotonic())
                self.say(service.answer(self.command, self.path, headers, body))

            do_POST = do_GET  # noqa: N815 (the base class's name)

            def say(self, answer: Answer) -> None:
                time.sleep(answer.wait_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if answer.drip_s:
                    for byte in answer.body:
                        self.wfile.write(bytes([byte]))
                        time.sleep(answer.drip_s)
                elif answer.cut_at is not None:
                    self.wfile.write(answer.body[: answer.cut_at])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                else:
                    self.wfile.write(answer.body)

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def process_request(self, request: Any, client_address: Any) -> None:
                service.connections += 1
                if service.refusing:
                    request.close()
                    return
                super().process_request(request, client_address)

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Server((HERE, 0), Handler)
        self.port = self.server.server_port
        self.url = f"http://{HERE}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def service():
    """A service that answers what the test says."""
    running = Service()
    yield running
    running.close()


PHP_SERVICE = r"""<?php
class Products {
    public function GetProduct($in) {
        if ($in->id === "boom") throw new SoapFault("Server", "the mainframe is away: secret-4711");
        if ($in->id === "bad") throw new SoapFault("Client", "no such thing: secret-4711");
        return ["product_id" => $in->id, "kind" => "<" . $in->id . " & co>"];
    }
}
$server = new SoapServer(null, ["uri" => "urn:products", "soap_version" => VERSION]);
$server->setObject(new Products());
class Wrapper {
    public function GetProduct($id) {
        $out = (new Products())->GetProduct((object)["id" => $id]);
        return new SoapVar(
            "<product><product_id>" . htmlspecialchars($out["product_id"], ENT_XML1) . "</product_id><kind>"
            . htmlspecialchars($out["kind"], ENT_XML1) . "</kind></product>", XSD_ANYXML);
    }
}
$server->setObject(new Wrapper());
$server->handle();
"""


@contextmanager
def php_soap_service(folder, version="1.1"):
    """Run PHP's own SoapServer; its URL."""
    php = shutil.which("php")
    if php is None or b"soap" not in subprocess.run([php, "-m"], capture_output=True, check=True).stdout.lower():
        pytest.skip("php with php-soap is not installed: run `make services`")
    (folder / "index.php").write_text(PHP_SERVICE.replace("VERSION", f"SOAP_{version.replace('.', '_')}"))
    port = free_port()
    command = [php, "-S", f"{HERE}:{port}", "-t", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while True:
            with suppress(OSError), socket.create_connection((HERE, port), 1):
                break
            assert time.monotonic() < until
            time.sleep(0.02)
        yield f"http://{HERE}:{port}"
    finally:
        process.terminate()
        process.wait(10)
