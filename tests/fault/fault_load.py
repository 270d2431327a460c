#!/usr/bin/env python3
"""Loads that are meant to hurt, on the real binary: what must stay bounded stays bounded, and every span is counted."""
import os
import pathlib
import socket
import struct
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import otlp
from cases import case, run
from engine import Engine, ERRORS, KEEP_ALL, QUICK, SANITIZED, in_threads, wait_for

MIB = 1 << 20


def many(count, trace_of, service="shop", name="GET /", status=0):
    """A request of `count` root spans, trace ids by trace_of(i): quick, since only ids differ."""
    start = time.time_ns()
    tail = otlp.message(5, name) + otlp.number(6, 2) + otlp.fixed64(7, start) + otlp.fixed64(8, start + 1000000)
    tail += otlp.message(15, otlp.number(3, status)) if status else b""
    size = 18 + 10 + len(tail)
    head, mid = otlp.tag(2, 2) + otlp.varint(size) + b"\x0a\x10", b"\x12\x08"
    base = struct.unpack("<Q", os.urandom(8))[0] >> 2
    spans = b"".join(head + trace_of(i) + mid + struct.pack("<Q", base + i) + tail for i in range(count))
    return otlp.message(1, otlp.message(1, otlp.resource(service)) + otlp.message(2, spans))


def distinct():
    base = os.urandom(8)
    return lambda i: base + struct.pack(">Q", i + 1)


def pump(e, bodies, threads=4):
    """Sends all bodies from several connections; each must be taken, after retries when it is refused. The refusals."""
    refused = [0] * threads

    def work(t):
        for body in bodies[t::threads]:
            end = time.monotonic() + 60
            while True:
                status, answer, _ = e.post(body, timeout=60)
                if status == 200:
                    break
                assert status == 503 and time.monotonic() < end, f"{status} {answer[:200]!r}"
                refused[t] += 1
                time.sleep(0.02)

    with in_threads(threads, work):
        pass
    return sum(refused)


@case("LOAD-02 giant-trace")
def load_02():
    total, each = (200_000 if SANITIZED else 1_000_000), 10_000
    # A busy machine may take long between two requests: only its size is to decide it.
    waits = "wait: { root: never, idle: 5s, most: 60s }\n"
    with Engine(waits + "rules: [ { name: rest, keep: none } ]") as e:
        trace = otlp.new_trace()
        body = many(each, lambda i: trace)
        e.oracle()
        rss = e.rss()
        pump(e, [body] * (total // each))
        m = e.settled()
        assert m.sum("traceweir_spans_accepted_total") >= total
        assert m.sum("traceweir_decisions_total", reason="size") == 1
        assert m.sum("traceweir_late_spans_total") >= total - 32_000 - each
        rise = e.rss() - rss
        assert rise < (160 if SANITIZED else 64) * MIB, f"{rise / MIB:.0f} MiB more"
        e.oracle()


@case("LOAD-03 one-span-traces")
def load_03():
    total, each = (100_000 if SANITIZED else 600_000), 5_000
    with Engine(QUICK + "rules: [ { name: rest, keep: none } ]", sets=["buffer.bytes_max=32MiB", "verdicts.bytes_max=4MiB"]) as e:
        bodies = [many(each, distinct()) for _ in range(total // each)]
        pump(e, bodies)
        m = e.settled()
        assert m.sum("traceweir_traces_decided_total") == total
        assert m.sum("traceweir_spans_let_go_total") == total
        used = m.by("traceweir_buffer_bytes", "kind")
        assert used["verdicts"] <= 4 * MIB + 2 * MIB, used
        assert e.rss("VmHWM") < (600 if SANITIZED else 256) * MIB
        e.oracle()


@case("LOAD-04 hash-flood")
def load_04():
    # Ids that share their low 56 bits, their high ones, and ids that count up: the shards' tables must not care.
    with Engine(ERRORS) as e:
        total, each = (40_000 if SANITIZED else 200_000), 5_000
        shapes = (lambda i: struct.pack(">Q", i + 1) + b"\0" * 7 + b"\1", lambda i: b"\0" * 8 + struct.pack(">Q", (i + 1) << 32),
                  lambda i: b"\0" * 12 + struct.pack(">I", i + 1))
        for shape in shapes:
            before = e.value("traceweir_traces_decided_total")
            pump(e, [many(each, lambda i, k=k: shape(i + k * each)) for k in range(total // each)])
            m = e.settled()
            assert m.sum("traceweir_traces_decided_total") == before + total
        e.oracle()


@case("LOAD-05 late-spans after decision, after decision-cache eviction")
def load_05():
    rules = ERRORS.replace("root: 100ms", "root: 50ms")
    with Engine(rules, sets=["verdicts.bytes_max=64KiB", "workers=1"]) as e:
        kept, gone = otlp.new_trace(), otlp.new_trace()
        e.send(otlp.request([otlp.span(kept, status=otlp.ERROR), otlp.span(gone)]))
        wait_for(lambda: e.value("traceweir_traces_decided_total") == 2, "both decided")
        e.send(otlp.request([otlp.span(kept), otlp.span(gone)]))
        wait_for(lambda: e.value("traceweir_late_spans_total") == 2, "both are late")
        m = e.settled()
        assert m.sum("traceweir_late_spans_total", decision="kept") == 1
        assert m.sum("traceweir_late_spans_total", decision="let_go") == 1
        assert m.sum("traceweir_forwarded_spans_total") == 2
        assert sum('"late"' in line for line in e.kept_lines()) == 1
        # A late error of a trace that was let go is kept all the same.
        e.send(otlp.request([otlp.span(gone, status=otlp.ERROR)]))
        wait_for(lambda: e.value("traceweir_forwarded_spans_total") == 3, "the late error forwarded")
        # When its verdict had to make room for others, a trace begins anew.
        pump(e, [many(5000, distinct()) for _ in range(4)], threads=1)
        e.settled()
        begun, late = e.value("traceweir_traces_begun_total"), e.value("traceweir_late_spans_total")
        e.send(otlp.request([otlp.span(kept)]))
        wait_for(lambda: e.value("traceweir_traces_begun_total") == begun + 1, "a trace begun anew")
        assert e.value("traceweir_late_spans_total") == late
        e.oracle()


@case("LOAD-06 cardinality-explosion")
def load_06():
    with Engine(QUICK + "rules: [ { name: rest, keep: none } ]", sets=["metrics.series_max=500"]) as e:
        total = 20_000
        rss = e.rss()
        for k in range(total // 1000):
            e.send(otlp.request([otlp.span(name=f"GET /user/{k * 1000 + i}") for i in range(1000)]))
        m = e.settled()
        calls = [(l, v) for n, l, v in m.samples if n == "traces_span_metrics_calls_total"]
        assert sum(v for _, v in calls) == total
        assert len(calls) <= 501, len(calls)
        over = [v for l, v in calls if l.get("otel_metric_overflow") == "true"]
        assert len(over) == 1 and over[0] == total - (len(calls) - 1), over
        assert e.rss() - rss < (160 if SANITIZED else 48) * MIB
        e.oracle()


@case("LOAD-07 hot-shard (one tenant 99 %)")
def load_07():
    with Engine(ERRORS) as e:
        total, each = (50_000 if SANITIZED else 300_000), 2_500
        hot = otlp.new_trace()
        # Ninety-nine of a hundred spans of one tenant, half of them of one trace, so that one shard gets most of it.
        bodies = []
        for k in range(total // each):
            ids = distinct()
            bodies.append(many(each, lambda i: hot if i % 2 else ids(i), service="small" if k % 100 == 99 else "hot"))
        pump(e, bodies)
        m = e.settled()
        assert m.sum("traceweir_spans_let_go_total") == total
        assert m.sum("traceweir_spans_refused_total") >= 0
        e.oracle()


@case("LOAD-08 slow-scraper (100 in parallel)")
def load_08():
    with Engine(ERRORS) as e:
        for k in range(5):
            e.send(otlp.request([otlp.span(name=f"op {k} {i}") for i in range(100)]))
        socks = []
        for _ in range(100):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            s.connect(("127.0.0.1", e.admin))
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 5)
            socks.append(s)
        rss = e.rss()
        for _ in range(5):
            e.send(otlp.traces(500))
            for s in socks:
                try:
                    s.recv(256, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    pass  # its window is nearly shut: that is how slow it is
        status, _, _ = e.get("/healthz")
        assert status == 200

        # Large pages that are being read are bounded in sum: others may be told to come again.
        status, text, _ = e.get()
        assert status == 200 or "readers" in text, text
        assert e.rss() - rss < 128 * MIB
        for s in socks:
            s.close()
        wait_for(lambda: e.get()[0] == 200, "scrapes, when they are gone")
        e.oracle()


@case("LOAD-10 all traces are errors (keep-all storm; the budget holds)")
def load_10():
    rules = QUICK + """rules:
  - { name: errors, when: '{ status = error }', keep: 50 per 1s }
  - { name: rest, keep: none }
"""
    with Engine(rules) as e:
        total, each = (20_000 if SANITIZED else 100_000), 1_000
        begun = time.monotonic()
        pump(e, [many(each, lambda i: os.urandom(16), status=otlp.ERROR) for _ in range(total // each)])
        m = e.settled()
        windows = time.monotonic() - begun + 2
        kept = m.sum("traceweir_spans_kept_total")
        assert 0 < kept <= 50 * windows, f"{kept} kept in {windows:.1f} windows"
        assert m.sum("traceweir_spans_let_go_total") == total - kept
        e.oracle()


@case("LOAD-10 all traces are errors, and the only backend is down: refused, not lost")
def load_10_backend():
    sets = ["forward.0.name=b", "forward.0.otlp_grpc=127.0.0.1:1", "forward.0.queue_bytes_max=64KiB", "drain.most=1s",
            "buffer.bytes_max=8MiB", "forward.0.compression=none"]
    with Engine(KEEP_ALL, sets=sets, expect_lost=True) as e:
        refused = False
        end = time.monotonic() + 60
        while not refused and time.monotonic() < end:
            status, _, head = e.post(many(1000, lambda i: os.urandom(16), status=otlp.ERROR))
            refused = status == 503
            assert status == 200 or "retry-after" in head
        assert refused, "never refused"
        m = e.metrics()
        assert m.sum("traceweir_lost_spans_total") == 0
        assert m.sum("traceweir_spans_refused_total", reason="buffer_full") > 0, m.by("traceweir_spans_refused_total", "reason")
        wait_for(lambda: e.get("/readyz")[0] == 503, "not ready while it refuses")
        assert e.alive()
        e.check_log()
        assert e.stop() == 4


if __name__ == "__main__":
    run()
