"""The folder's page in headless Chromium, served on loopback with the libraries beside it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from answering import ROUNDS, Request

SECONDS = 240
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
request = Request()
folder = request.folder
node = Path(os.environ["NODE_FOLDER"]) / "node_modules"
DRIVER = """<!doctype html><iframe id=page src=/NAME/index.html></iframe><script type=module>
const texts = TEXTS, rounds = ROUNDS, vectors = {}, times = [];
const send = body => fetch("/answer", { method: "POST", body: JSON.stringify(body) });
const page = document.querySelector("#page");
page.onload = async () => {
  const inner = page.contentWindow;
  inner.onerror = error => send({ error: String(error) });
  inner.onunhandledrejection = event => send({ error: String(event.reason) });
  try {
    while (!inner.run) await new Promise(done => setTimeout(done, 100));
    for (const [i, text] of texts.entries()) vectors[i] = await inner.run(...text);
    for (let k = 0; k < rounds; k++) {
      const start = performance.now();
      await inner.run(...texts[0]);
      times.push(performance.now() - start);
    }
    await send({ vectors, latency_ms: times });
  } catch (error) { await send({ error: String(error) }); }
};
</script>"""
found = {}
done = threading.Event()


class Handler(SimpleHTTPRequestHandler):
    """The folder, the libraries at its `vendor/`, the driver's page and its answer."""

    def translate_path(self, path):
        """Where a request's file lies."""
        head, _, name = path.partition("?")[0].rpartition("/vendor/")
        if head != "" or path.startswith("/vendor/"):
            for place in ("@huggingface/transformers/dist", "onnxruntime-web/dist"):
                if (node / place / name).is_file():
                    return str(node / place / name)
        return super().translate_path(path)

    def do_GET(self):
        """The driver's page, or a file."""
        if self.path == "/":
            page = DRIVER.replace("NAME", folder.name).replace("TEXTS", json.dumps(request.texts))
            body = page.replace("ROUNDS", str(ROUNDS)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(body)
            return
        super().do_GET()

    def do_POST(self):
        """The answer."""
        found.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()
        done.set()

    def log_message(self, *_):
        """No log."""


Handler.extensions_map |= {".mjs": "text/javascript", ".js": "text/javascript",
                           ".wasm": "application/wasm"}  # fmt: skip
browser = next((shutil.which(name) for name in BROWSERS if shutil.which(name)), None)
if browser is None:
    raise SystemExit(f"one of {', '.join(BROWSERS)} must be on PATH")
server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder.parent)))
threading.Thread(target=server.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-dev-shm-usage", f"--user-data-dir={profile}", "--remote-debugging-port=0",
               f"http://127.0.0.1:{server.server_address[1]}/"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        done.wait(SECONDS)
    finally:
        process.terminate()
        process.wait(30)
if "vectors" not in found:
    raise SystemExit(found.get("error", f"the page gave no answer within {SECONDS} s"))
(precision,) = request.graphs
request.rows.append({"precision": precision, "way": "page", **found})
package = json.loads((node / "@huggingface/transformers" / "package.json").read_text())
answer = {"rows": request.rows, "versions": {"transformers.js": package["version"]}}
Path(sys.argv[2]).write_text(json.dumps(answer), encoding="utf-8")
