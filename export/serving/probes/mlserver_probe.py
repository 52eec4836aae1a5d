"""MLServer on loopback, asked over HTTP by the V2 protocol."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from answering import Request

START_SECONDS = 120
request = Request()


def free_ports(count):
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def post(port, name, *text):
    """One inference."""
    values = [
        {"name": field, "datatype": "BYTES", "shape": [1], "data": [value]}
        for field, value in zip(("text", "pair"), text, strict=False)
    ]
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/{name}/infer",
        data=json.dumps({"inputs": values}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=60) as reply:
        outputs = {row["name"]: row for row in json.load(reply)["outputs"]}
    found = outputs[request.output]
    return request.vector(np.array(found["data"], np.float32).reshape(found["shape"]))


def wait_for(port, name, server):
    """Until the model is ready."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            url = f"http://127.0.0.1:{port}/v2/models/{name}/ready"
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    raise SystemExit("the server did not get ready")


with tempfile.TemporaryDirectory() as temporary:
    place = Path(temporary) / "model"
    shutil.copytree(request.folder, place)
    http, grpc = free_ports(2)
    settings = json.loads((place / "settings.json").read_text(encoding="utf-8"))
    settings |= {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "debug": False}
    (place / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    name = json.loads((place / "model-settings.json").read_text(encoding="utf-8"))["name"]
    log = Path(temporary) / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "mlserver.cli.main", "start", str(place)]
            if not (Path(sys.executable).parent / "mlserver").is_file()
            else [str(Path(sys.executable).parent / "mlserver"), "start", str(place)],
            stdout=stream, stderr=stream, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        try:
            wait_for(http, name, server)
            (precision,) = request.graphs
            request.ask(precision, lambda *text: post(http, name, *text), way="http")
        except SystemExit:
            lines = [line for line in log.read_text().splitlines() if line.strip()]
            raise SystemExit(lines[-1] if lines else "the server said nothing") from None
        finally:
            server.terminate()
            server.wait(30)
request.answer("mlserver", "onnxruntime", "tokenizers")
