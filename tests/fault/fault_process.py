#!/usr/bin/env python3
"""Signals, descriptors, pipes and clocks, on the real binary."""
import os
import pathlib
import resource
import signal
import socket
import struct
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import h2
import otlp
from backend import black_hole
from cases import case, run
from engine import Engine, KEEP_ALL, QUICK, free_port, wait_for


class Load:
    """Senders over both protocols until stopped; remembers what was acknowledged."""

    def __init__(self, e, threads=4):
        self.e, self.stopped = e, threading.Event()
        self.acked = [set() for _ in range(threads)]
        self.count = 0
        self.threads = [threading.Thread(target=self.work, args=(i,), daemon=True) for i in range(threads)]
        for t in self.threads:
            t.start()

    def work(self, i):
        while not self.stopped.is_set():
            body = otlp.traces(20, 3)
            try:
                if i % 2:
                    ok = self.e.post(body)[0] == 200
                else:
                    ok = self.e.call(body).grpc_status == 0
            except (OSError, h2.Closed, AssertionError, TimeoutError, ConnectionError):
                ok = False
            except Exception as x:  # http.client's own: the peer went away in the middle
                assert "http.client" in type(x).__module__, x
                ok = False
            if ok:
                self.acked[i] |= {s for _, s in otlp.spans_of(body)}
                self.count += 1
            elif not self.e.alive():
                return
            else:
                self.stopped.wait(0.02)

    def stop(self):
        self.stopped.set()
        for t in self.threads:
            t.join(60)
            assert not t.is_alive()
        return set().union(*self.acked)


def spans_in_file(e):
    import json
    out = []
    for line in e.kept_lines():
        for rs in json.loads(line)["resourceSpans"]:
            for ss in rs["scopeSpans"]:
                out += [bytes.fromhex(s["spanId"]) for s in ss["spans"]]
    return out


@case("PROC-01 SIGTERM under load")
def proc_01():
    e = Engine(KEEP_ALL)
    load = Load(e)
    wait_for(lambda: load.count >= 40, "some load")
    assert e.stop() == 0
    acked = load.stop()
    got = spans_in_file(e)
    assert len(got) == len(set(got)), "a span is there twice"
    assert acked <= set(got), f"{len(acked - set(got))} of {len(acked)} acknowledged spans are lost"


@case("PROC-02 second SIGTERM")
def proc_02():
    with black_hole() as hole:
        e = Engine(KEEP_ALL, sets=["forward.0.name=b", f"forward.0.otlp_grpc=127.0.0.1:{hole.port}", "drain.most=600s"])
        e.send(otlp.good(3))
        e.kill(signal.SIGTERM)
        wait_for(lambda: "draining" in e.log(), "the drain")
        assert e.alive()
        code = e.stop(timeout=30)
        assert code == 4, f"{code}\n{e.log()}"
        assert "second signal" in e.log() and "not delivered" in e.log(), e.log()


@case("PROC-03 SIGHUP storm")
def proc_03():
    e = Engine(KEEP_ALL)
    load = Load(e)
    for i in range(200):
        e.write_rules(KEEP_ALL.replace("name: all", f"name: all{i % 3}"))
        e.kill(signal.SIGHUP)
        time.sleep(0.005)
    wait_for(lambda: load.count >= 40, "load beside the storm")
    e.oracle()
    m = e.metrics()
    assert m.sum("traceweir_reloads_total", outcome="ok") >= 2
    assert m.sum("traceweir_reloads_total", outcome="failed") == 0
    acked = load.stop()
    assert e.stop() == 0
    got = spans_in_file(e)
    assert acked <= set(got) and len(got) == len(set(got)), f"{len(acked - set(got))} lost"


@case("PROC-04 SIGSTOP then SIGCONT")
def proc_04():
    # Long enough for every deadline of every trace held to pass: then all timers fire at once.
    with Engine(KEEP_ALL, sets=["verdicts.keep_for=1s"]) as e:
        c = h2.Client(e.grpc)
        assert c.call(otlp.good()).grpc_status == 0
        for _ in range(10):
            e.send(otlp.traces(500, 2))
        e.kill(signal.SIGSTOP)
        time.sleep(4)
        pending = threading.Thread(target=lambda: e.send(otlp.good()), daemon=True)
        pending.start()
        e.kill(signal.SIGCONT)
        pending.join(30)
        assert not pending.is_alive()
        m = e.settled()
        assert m.sum("traceweir_spans_kept_total") == 10002, m.sum("traceweir_spans_kept_total")
        assert c.call(otlp.good()).grpc_status == 0, "the connection did not live on"
        c.close()
        e.oracle()


def fixed(rules=KEEP_ALL, **how):
    """An engine whose ports are known beforehand, since its log cannot be read."""
    grpc, http = free_port(), free_port()
    e = Engine(rules, sets=[f"receive.otlp_grpc=127.0.0.1:{grpc}", f"receive.otlp_http=127.0.0.1:{http}", "log.level=debug"],
               wait=False, **how)
    e.grpc, e.http = grpc, http

    def up():
        try:
            return e.get("/readyz")[0] == 200
        except OSError:
            assert e.alive(), e.process.returncode
            return False

    wait_for(up, "readiness")
    return e


def chatter(e, n=300):
    """Makes it want to log: signals that are not traces, reloads."""
    for _ in range(n):
        e.post(b"", path="/v1/metrics")
    e.write_rules("not: [ rules")
    e.kill(signal.SIGHUP)
    wait_for(lambda: e.value("traceweir_reloads_total", outcome="failed") >= 1, "a failed reload")


@case("PROC-05 stderr blocked")
def proc_05_blocked():
    r, w = os.pipe()
    os.set_blocking(w, False)
    try:
        while True:
            os.write(w, b"x" * 4096)
    except BlockingIOError:
        pass
    os.set_blocking(w, True)
    e = fixed(stderr=w)
    chatter(e)
    for _ in range(50):
        e.send(otlp.good(2))
    assert e.alive()
    e.metrics()
    e.kill(signal.SIGTERM)
    # It ends although nobody ever reads; should it wait for the pipe at all, it does so for a bounded time.
    assert e.process.wait(60) == 0
    os.close(r)
    os.close(w)


@case("PROC-05 stdout/stderr closed")
def proc_05_closed():
    e = fixed(prefix=["sh", "-c", 'exec "$@" >&- 2>&-', "sh"])
    chatter(e)
    for _ in range(50):
        e.send(otlp.good(2))
    e.settled()
    e.kill(signal.SIGTERM)
    code = e.process.wait(60)
    assert code == 0, code
    # Descriptor 2 may have become something else: no log line went into it.
    assert all(line.startswith("{") for line in e.kept_lines())


@case("PROC-06 SIGPIPE")
def proc_06():
    with Engine(KEEP_ALL) as e:
        for _ in range(100):
            s = socket.create_connection(("127.0.0.1", e.http))
            body = otlp.good()
            s.sendall((b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\nContent-Length: %d\r\n\r\n"
                       % len(body) + body) * 20)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()  # a reset: what is answered is written into nowhere
        e.kill(signal.SIGPIPE)
        wait_for(lambda: e.value("traceweir_connections") == 0, "the connections gone")
        e.oracle()


@case("PROC-07 RLIMIT_NOFILE 256")
def proc_07():
    def limits():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))

    with Engine(KEEP_ALL, limits=limits) as e:
        socks = []
        for _ in range(400):
            try:
                s = socket.create_connection(("127.0.0.1", e.grpc), 5)
                socks.append(s)
            except OSError:
                break
        wait_for(lambda: full(e), "descriptors used up")
        for s in socks:
            s.close()

        def well():
            try:
                return e.value("traceweir_connections") == 0
            except OSError:
                return False

        wait_for(well, "the connections gone")
        assert e.value("traceweir_accept_failures_total") > 0
        e.oracle()


def full(e):
    return len(os.listdir(f"/proc/{e.pid}/fd")) >= 240


# ---- clocks ----

class Clock:
    """The wall clock of an engine, moved by a preloaded library."""

    def __init__(self, path):
        self.path = path
        self.set(0)

    def set(self, seconds):
        with open(self.path, "r+b" if os.path.exists(self.path) else "wb") as f:
            f.write(struct.pack("=q", seconds))

    def env(self):
        return {"TW_CLOCK_SHIFT": self.path, "LD_PRELOAD": os.environ["TW_CLOCK_LIBRARY"]}


class Shifted(Engine):
    """Sanitizers want to be loaded first; they can live with being second."""

    def __init__(self, clock, rules):
        env = clock.env()
        env["ASAN_OPTIONS"] = "verify_asan_link_order=0:detect_leaks=1"
        super().__init__(rules, env=env)


@case("TIME-01 wall clock -1 h / +1 day")
def time_01():
    import tempfile
    clock = Clock(os.path.join(tempfile.mkdtemp(prefix="traceweir-test-"), "shift"))
    held = "wait: { root: 10m, idle: 10m, most: 20m }\nrules:\n  - { name: all, keep: all }\n"
    with Shifted(clock, held) as e:
        e.send(otlp.good(3))
        for shift in (86400, -3600, 0):
            clock.set(shift)
            assert wall(e) == shift, "the clock was not moved"
            for _ in range(20):
                e.send(otlp.good())
                assert e.value("traceweir_traces_decided_total") == 0, "decided by the wall clock"
    clock.set(0)
    with Shifted(clock, KEEP_ALL) as e:
        for shift in (86400, -3600, 0):
            clock.set(shift)
            e.send(otlp.traces(50, 2))
            e.settled()
            e.oracle()
            e.settled()
        m = e.metrics()
        assert m.sum("traceweir_decisions_total", reason="most") == 0
        assert m.sum("traceweir_lost_spans_total") == 0


def wall(e):
    """How far the engine's wall clock is from ours, to the minute: its answers carry a date."""
    from email.utils import parsedate_to_datetime
    _, _, head = e.post(otlp.good())
    off = parsedate_to_datetime(head["date"]).timestamp() - time.time()
    return round(off / 60) * 60


@case("TIME-04 client clocks +-10 min within one trace")
def time_04():
    rules = QUICK + """rules:
  - { name: slow, when: '{ duration > 2s }', keep: all }
  - { name: rest, keep: none }
"""
    with Engine(rules) as e:
        now, minute = time.time_ns(), 60 * 10**9
        for _ in range(20):
            trace, root = otlp.new_trace(), otlp.new_span()
            e.send(otlp.request([otlp.span(trace, root, start=now)] +
                                [otlp.span(trace, parent=root, start=now + k * minute) for k in (-10, -5, 5, 10)]))
        m = e.settled()
        # No span is slow, whatever their clocks say of one another; one decision for each trace, at its root's time.
        assert m.sum("traceweir_traces_decided_total") == 20
        assert m.sum("traceweir_decisions_total", reason="root", decision="let_go") == 20
        e.oracle()


if __name__ == "__main__":
    run()
