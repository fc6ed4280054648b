"""The part of a kubelet that hands out containers' logs, so that an API server without nodes can be asked for them."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from typing_extensions import override

from tests.kubernetes import ApiServer

__all__ = ["Kubelet", "kubelet"]


class Kubelet:
    """One node's logs.

    Attributes:
        node: its name.
        logs: by pod: each line with its time, as a container runtime keeps it.
        previous: the same, of the containers before.
        broken: pods whose stream breaks off after what is there, once.
    """

    def __init__(self, node: str) -> None:
        self.node = node
        self.logs: dict[str, list[str]] = {}
        self.previous: dict[str, list[str]] = {}
        self.broken: set[str] = set()
        self.asked: list[dict[str, list[str]]] = []


@contextmanager
def kubelet(kube: ApiServer, node: str) -> Generator[Kubelet, None, None]:
    """A node of this name at `kube`."""
    state = Kubelet(node)
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            _, _, _, pod, _ = parts.path.split("/")
            query = parse_qs(parts.query)
            state.asked.append(query)
            kept = state.previous if query.get("previous") == ["true"] else state.logs
            if pod not in kept:
                self.send_error(404, "no such container")
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.end_headers()
            lines = kept[pod]
            done = max(0, len(lines) - int(query.get("tailLines", [str(len(lines))])[0]))
            if "sinceTime" in query:
                # As the runtime does, from that second on.
                since = query["sinceTime"][0].rstrip("Z").partition(".")[0]
                done = next((i for i, line in enumerate(lines) if line >= since), len(lines))
            while not over.is_set():
                for line in lines[done:]:
                    shown = line if query.get("timestamps") == ["true"] else line.partition(" ")[2]
                    self.wfile.write(f"{shown}\n".encode())
                done = len(lines)
                self.wfile.flush()
                if query.get("follow") != ["true"]:
                    return
                if pod in state.broken:
                    state.broken.remove(pod)
                    return
                time.sleep(0.05)

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(kube.authority, kube.authority.with_suffix(".key"))
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": server.server_address[1]}},
        }
        kube.put("/api/v1/nodes", {"metadata": {"name": node}}, status)
        yield state
    finally:
        over.set()
        server.shutdown()
        server.server_close()
        thread.join()
        kube.request("DELETE", f"/api/v1/nodes/{node}")
