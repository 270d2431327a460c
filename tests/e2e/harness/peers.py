"""The programs that traceweir is tested with: where they are, and how they are built when they are not there yet.

Each is built once, from pinned versions in this repository, into a directory that is named by a hash of what it is
built from, under ${XDG_CACHE_HOME:-~/.cache}/traceweir-peers. A peer that cannot be had is a failed test.
TW_PEERS_DIR names a directory whose bin/ has some of them ready (otelcol, jaeger, h2spec); the rest is built.

    python3 tests/e2e/peers/get.py NAME…      prints where each one is"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time

from harness.process import Failed, check

E2E = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Peer:
    """inputs: a folder of this repository; everything is built in a copy of it."""

    def __init__(self, inputs, program, steps, needs, ready=None, also=(), keep=None):
        self.inputs = inputs      # below tests/e2e
        self.program = program    # argv of the finished thing; {} is its directory
        self.steps = steps        # commands, in that directory
        self.needs = needs        # program → how to get it
        self.ready = ready        # its name in TW_PEERS_DIR/bin
        self.also = also          # what else it depends on: part of the hash
        self.keep = keep          # after the build, only this is kept


GO = {"go": "Go 1.26 or newer, from go.dev/dl"}
JAVA = {"java": "apt-get install openjdk-17-jdk-headless", "mvn": "apt-get install maven"}
GO_BUILD = ["go", "build", "-mod=readonly", "-trimpath", "-o"]

PEERS = {
    "python": Peer("clients/python", ["{}/venv/bin/python", "{}/client.py"],
                   [[sys.executable, "-m", "venv", "venv"],
                    ["venv/bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "-r", "requirements.txt"]],
                   {"python3": "apt-get install python3 python3-venv"}, also=[sys.version]),
    "node": Peer("clients/node", ["node", "{}/client.js"],
                 [["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]],
                 {"node": "Node.js 20 or newer, from nodejs.org", "npm": "npm, which comes with Node.js"}),
    "go": Peer("clients/go", ["{}/client"], [GO_BUILD + ["client", "."]], GO, keep=["client"]),
    "java": Peer("clients/java", ["java", "-cp", "{}/target/client.jar:{}/target/lib/*", "Client"],
                 [["mvn", "--batch-mode", "--quiet", "package"]], JAVA),
    "rust": Peer("clients/rust", ["{}/client"],
                 [["cargo", "build", "--locked", "--quiet"], ["mv", "target/debug/client", "client"]],
                 {"cargo": "Rust 1.75 or newer, from rustup.rs", "cc": "apt-get install gcc"}, keep=["client"]),
    "collector": Peer("peers/collector", ["{}/otelcol"], [GO_BUILD + ["otelcol", "."]], GO, ready="otelcol",
                      keep=["otelcol"]),
    "jaeger": Peer("peers/jaeger", ["{}/jaeger"], [GO_BUILD + ["jaeger", "github.com/jaegertracing/jaeger/cmd/jaeger"]],
                   GO, ready="jaeger", keep=["jaeger"]),
    "h2spec": Peer("peers/h2spec", ["{}/h2spec"], [GO_BUILD + ["h2spec", "github.com/summerwind/h2spec/cmd/h2spec"]],
                   GO, ready="h2spec", keep=["h2spec"]),
}


def cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "traceweir-peers")


def _sources(folder):
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if f not in ("node_modules", "target", "venv", "__pycache__"))
        for name in sorted(files):
            yield os.path.join(root, name)


def _hash(peer):
    h = hashlib.sha256()
    for part in [*map(str, peer.steps), *peer.also, platform.machine()]:
        h.update(part.encode() + b"\0")
    for path in _sources(os.path.join(E2E, peer.inputs)):
        with open(path, "rb") as f:
            h.update(path[len(E2E):].encode() + b"\0" + f.read() + b"\0")
    return h.hexdigest()[:16]


@contextlib.contextmanager
def _locked(path):
    with open(path, "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _build(name, peer, directory):
    for program, how in peer.needs.items():
        check(shutil.which(program), f"the peer {name} needs {program}, which is not installed: {how}")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(os.path.join(E2E, peer.inputs), directory,
                    ignore=shutil.ignore_patterns("node_modules", "target", "venv", "__pycache__"))
    begin = time.monotonic()
    for step in peer.steps:
        print(f"peer {name}: {' '.join(step)}", file=sys.stderr, flush=True)
        done = subprocess.run(step, cwd=directory, stdin=subprocess.DEVNULL, stdout=sys.stderr)
        check(done.returncode == 0, f"the peer {name} cannot be had: '{' '.join(step)}' in {directory} ended with "
              f"{done.returncode}. It downloads from the language's public registry.")
    if peer.keep:
        for entry in os.listdir(directory):
            path = os.path.join(directory, entry)
            if entry not in peer.keep:
                shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    print(f"peer {name}: built in {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)


def get(name):
    """argv of the peer, built first if it must be."""
    peer = PEERS[name]
    prebuilt = os.environ.get("TW_PEERS_DIR")
    if prebuilt and peer.ready and os.access(os.path.join(prebuilt, "bin", peer.ready), os.X_OK):
        return [os.path.join(prebuilt, "bin", peer.ready)]
    directory = os.path.join(cache(), f"{name}-{_hash(peer)}")
    done = os.path.join(directory, ".complete")
    os.makedirs(cache(), exist_ok=True)
    with _locked(directory + ".lock"):
        if not os.path.exists(done):
            _build(name, peer, directory)
            open(done, "w").close()
    return [part.replace("{}", directory) for part in peer.program]


def debian(program, package):
    """A program that is a Debian package."""
    path = shutil.which(program)
    if path is None:
        raise Failed(f"{program} is not installed: apt-get install {package}")
    return path
