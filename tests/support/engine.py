"""The real binary under test: started, talked to, scraped, its books checked."""
import contextlib
import gzip
import http.client
import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time

import h2
import otlp

BINARY = os.environ.get("TW_BINARY", "build/release/traceweir")
SANITIZED = os.environ.get("TW_SANITIZED", "") not in ("", "0")
WAIT = 30  # seconds until a condition must have come true; generous, since machines are slow and sanitizers slower

QUICK = "wait: { root: 100ms, idle: 300ms, most: 3s }\n"
KEEP_ALL = QUICK + "rules:\n  - { name: all, keep: all }\n"
ERRORS = QUICK + """rules:
  - name: errors
    when: '{ status = error }'
    keep: all
  - name: rest
    keep: none
"""

REPORT = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehavior|runtime error:|Assertion|assertion")


def wait_for(condition, what, timeout=WAIT):
    """Until condition() is true; its value."""
    end = time.monotonic() + timeout
    while True:
        v = condition()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError(f"not within {timeout} s: {what}")
        time.sleep(0.01)


def free_port():
    """A free port below those that the kernel gives out by itself, so that nobody gets it by chance before we use it."""
    while True:
        with socket.socket() as s:
            port = random.SystemRandom().randrange(10240, 32768)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')


class Metrics:
    def __init__(self, text):
        self.text = text
        self.samples = []
        for line in text.split("\n"):
            m = SAMPLE.match(line)
            if m and not line.startswith("#"):
                self.samples.append((m[1], dict(LABEL.findall(m[2] or "")), float(m[3])))

    def sum(self, name, **labels):
        return sum(v for n, l, v in self.samples
                   if n == name and all(l.get(k) == w for k, w in labels.items()))

    def by(self, name, label):
        return {l[label]: v for n, l, v in self.samples if n == name and label in l}


class Engine:
    """A running traceweir. config: YAML text beside the ports, or None; sets: --set values."""

    def __init__(self, rules=KEEP_ALL, sets=(), config=None, env=None, limits=None, stderr=None, prefix=(),
                 wait=True, expect_lost=False):
        self.dir = tempfile.mkdtemp(prefix="traceweir-test-")
        self.rules_path = os.path.join(self.dir, "rules.yaml")
        self.out = os.path.join(self.dir, "kept.jsonl")
        self.expect_lost = expect_lost
        self.write_rules(rules)
        names = [s.split("=", 1)[0] for s in sets]
        base = {"rules": self.rules_path, "receive.otlp_grpc": "127.0.0.1:0", "receive.otlp_http": "127.0.0.1:0",
                "memory_max": "256MiB", "workers": "2"}
        self.admin = free_port()
        if "admin.listen" not in names:
            base["admin.listen"] = f"127.0.0.1:{self.admin}"
        if config is None and not any(n.startswith("forward") for n in names):
            base["forward.0.name"] = "kept"
            base["forward.0.file"] = self.out
        self.args = [BINARY, "run"]
        if config is not None:
            self.config_path = os.path.join(self.dir, "traceweir.yaml")
            with open(self.config_path, "w", encoding="utf-8") as f:
                f.write(config)
            self.args += ["--config", self.config_path]
        for k, v in base.items():
            if k not in names:
                self.args += ["--set", f"{k}={v}"]
        for s in sets:
            self.args += ["--set", s]
        full = dict(os.environ, ASAN_OPTIONS="detect_leaks=1:quarantine_size_mb=8:allocator_may_return_null=1",
                    UBSAN_OPTIONS="print_stacktrace=1")
        full.update(env or {})
        self.err_path = os.path.join(self.dir, "stderr")
        self.err = open(self.err_path, "wb") if stderr is None else stderr
        self.process = subprocess.Popen(list(prefix) + self.args, stdin=subprocess.DEVNULL, stdout=self.err,
                                        stderr=self.err, env=full, preexec_fn=limits, cwd=self.dir)
        self.pid = self.process.pid
        self.grpc = self.http = 0
        self.ready = False
        if wait:
            self.wait_ready()

    def write_rules(self, text):
        """Replaces the file in one step, as editors and deployments do."""
        with open(self.rules_path + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.rename(self.rules_path + ".new", self.rules_path)

    def log(self):
        with open(self.err_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def wait_ready(self):
        def ports():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended with {self.process.returncode}:\n{self.log()}")
            m = re.search(r"otlp_grpc_port=(\d+).*otlp_http_port=(\d+)", self.log())
            return m and (int(m[1]), int(m[2]))

        self.grpc, self.http = wait_for(ports, "the line with the ports")
        self.ready = True

    # ---- talking to it ----

    def post(self, body, headers=(), path="/v1/traces", kind="application/x-protobuf", timeout=WAIT, port=None):
        """One OTLP/HTTP request; (status, body, headers)."""
        c = http.client.HTTPConnection("127.0.0.1", port or self.http, timeout=timeout)
        try:
            all_headers = {} if kind is None else {"content-type": kind}
            all_headers.update(dict(headers))
            try:
                c.request("POST", path, body, all_headers)
            except (BrokenPipeError, ConnectionResetError):
                pass  # an answer may have come before the body was sent
            r = c.getresponse()
            return r.status, r.read(), {k.lower(): v for k, v in r.getheaders()}
        finally:
            c.close()

    def send(self, body):
        """A good request over OTLP/HTTP; raises when it is not taken whole."""
        status, answer, _ = self.post(body)
        assert status == 200, f"{status} {answer!r}"
        rejected, text = otlp.rejected_of(answer)
        assert rejected == 0, text

    def call(self, body, more=(), path=h2.EXPORT, timeout=WAIT):
        """One OTLP/gRPC request on a connection of its own; its h2.Answer."""
        with h2.Client(self.grpc, timeout=timeout) as c:
            return c.call(body, path, more)

    def get(self, path="/metrics", accept=None, timeout=WAIT):
        c = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=timeout)
        try:
            c.request("GET", path, headers={"accept": accept} if accept else {})
            r = c.getresponse()
            return r.status, r.read().decode("utf-8"), r.getheader("content-type")
        finally:
            c.close()

    def metrics(self):
        status, text, _ = self.get()
        assert status == 200, f"{status} {text}"
        m = Metrics(text)
        check_books(m)
        return m

    def value(self, name, **labels):
        return self.metrics().sum(name, **labels)

    def settled(self):
        """Waits until every span is decided and delivered; the metrics then."""
        def at_rest():
            m = self.metrics()
            return m if m.sum("traceweir_spans_in_flight") == 0 and m.sum("traceweir_queued_spans") == 0 else None

        return wait_for(at_rest, "nothing in flight, nothing queued")

    def kept_lines(self):
        if not os.path.exists(self.out):
            return []
        with open(self.out, encoding="utf-8") as f:
            return f.read().splitlines()

    def rss(self, field="VmRSS"):
        with open(f"/proc/{self.pid}/status", encoding="utf-8") as f:
            return int(re.search(field + r":\s+(\d+) kB", f.read())[1]) * 1024

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="utf-8") as f:
            p = f.read().rsplit(")", 1)[1].split()
        return (int(p[11]) + int(p[12])) / os.sysconf("SC_CLK_TCK")

    # ---- its end ----

    def kill(self, sig):
        self.process.send_signal(sig)

    def alive(self):
        return self.process.poll() is None

    def check_log(self):
        bad = [line for line in self.log().splitlines() if REPORT.search(line)] if self.err_path else []
        assert not bad, "\n".join(bad[:5]) + "\n" + self.log()[-6000:]

    def oracle(self):
        """What holds after every case: alive, no report, balanced books, a scrape within its time, and a good
        request is accepted over both protocols."""
        assert self.alive(), f"it ended with {self.process.returncode}:\n{self.log()[-6000:]}"
        self.metrics()
        self.send(otlp.good(2))
        a = self.call(otlp.good(2))
        assert a.grpc_status == 0, f"{a.grpc_status} {a.message}"
        self.check_log()

    def stop(self, sig=signal.SIGTERM, timeout=60):
        """Ends it; the exit code."""
        if self.alive():
            self.kill(sig)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired as e:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end within {timeout} s\n{self.log()[-4000:]}") from e
        self.close()
        self.check_log()
        return code

    def close(self):
        if self.err and not self.err.closed if hasattr(self.err, "closed") else False:
            self.err.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is not None:
            if self.alive():
                self.process.kill()
            self.process.wait()
            self.close()
            return False
        code = self.stop()
        assert code in ((0, 4) if self.expect_lost else (0,)), f"exit code {code}\n{self.log()[-4000:]}"
        return False


def check_books(m):
    """The equations that hold in every scrape."""
    s = m.sum
    received = s("traceweir_spans_received_total")
    accepted = s("traceweir_spans_accepted_total")
    out = accepted + s("traceweir_spans_rejected_total") + s("traceweir_spans_refused_total")
    assert received == out, f"received {received} != accepted + rejected + refused {out}"
    parts = (s("traceweir_spans_kept_total") + s("traceweir_spans_let_go_total") +
             s("traceweir_spans_in_flight"))
    ring = s("traceweir_ring_spans")
    assert ring >= 0, f"ring {ring}"
    assert accepted == parts, f"accepted {accepted} != kept + let_go + in_flight {parts}"
    for d, kept in m.by("traceweir_destination_spans_total", "destination").items():
        sent = s("traceweir_forwarded_spans_total", destination=d)
        lost = s("traceweir_lost_spans_total", destination=d)
        queued = s("traceweir_queued_spans", destination=d)
        assert kept == sent + lost + queued, f"{d}: kept {kept} != {sent} + {lost} + {queued}"


@contextlib.contextmanager
def in_threads(count, work):
    """Runs work(i) in threads beside the body; their first exception is raised at the end."""
    failed = []

    def run(i):
        try:
            work(i)
        except BaseException as e:  # handed to the test
            failed.append(e)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for t in threads:
        t.start()
    try:
        yield threads
    finally:
        for t in threads:
            t.join(120)
    if failed:
        raise failed[0]
    assert not any(t.is_alive() for t in threads), "a thread hangs"


def gz(body):
    return gzip.compress(body, 6)
