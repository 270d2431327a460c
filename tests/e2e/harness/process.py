"""Processes, ports, and waiting for something to become true."""

import os
import random
import signal
import socket
import subprocess
import sys
import time

DEADLINE_S = 60


class Failed(Exception):
    """A check that does not hold. Its text is what the reader of the log gets."""


def check(condition, text):
    if not condition:
        raise Failed(text)


def await_(what, condition, deadline_s=DEADLINE_S, alive=()):
    """Polls until condition() is neither None nor False, and returns it. `alive` must keep running meanwhile."""
    end = time.monotonic() + deadline_s
    while True:
        for process in alive:
            process.check_alive()
        value = condition()
        if value is not None and value is not False:
            return value
        if time.monotonic() > end:
            raise Failed(f"waited {deadline_s} s in vain for: {what}")
        time.sleep(0.02)


def free_port():
    """A port nobody listens on, below the range that the kernel gives to outgoing connections."""
    for _ in range(200):
        port = random.randrange(20000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise Failed("no free port")


class Process:
    """A child with its output in a file. Stopped at the end of `with`, whatever happens."""

    def __init__(self, name, argv, directory, env=None, stdout=None):
        self.name = name
        self.directory = directory
        self.log_path = os.path.join(directory, f"{name}.log")
        self._log = open(self.log_path, "ab")
        self._popen = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout or self._log, stderr=self._log,
                                       cwd=directory, env=dict(os.environ, **(env or {})))
        self.pid = self._popen.pid

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        self._log.close()
        if kind is not None:
            print(f"---- {self.name}: the end of its log", file=sys.stderr)
            print("\n".join(self.log().splitlines()[-40:]), file=sys.stderr)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def check_alive(self):
        code = self._popen.poll()
        check(code is None, f"{self.name} ended by itself with code {code}")

    def signal(self, number):
        self._popen.send_signal(number)

    def wait(self, deadline_s=DEADLINE_S):
        try:
            return self._popen.wait(deadline_s)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} has not ended after {deadline_s} s") from None

    def stop(self, deadline_s=DEADLINE_S):
        """SIGTERM, and its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(deadline_s)
