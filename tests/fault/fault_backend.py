#!/usr/bin/env python3
"""Backends that fail, through the real binary: whatever they do, each kept span is forwarded, queued, or lost for a
reason that is counted."""
import pathlib
import sys
import time
from email.utils import formatdate

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import h2
import otlp
from backend import GrpcSink, HttpSink, Sink, black_hole, retry_info
from cases import case, run
from engine import Engine, KEEP_ALL, free_port, wait_for

FAST = ["forward.0.backoff_first=20ms", "forward.0.backoff_most=100ms", "forward.0.batch_age=10ms", "forward.0.timeout=2s"]


def engine(kind, port, more=(), lost=False, **how):
    target = f"http://127.0.0.1:{port}" if kind == "otlp_http" else f"127.0.0.1:{port}"
    return Engine(KEEP_ALL, sets=["forward.0.name=b", f"forward.0.{kind}={target}", *FAST, *more], expect_lost=lost, **how)


def lost(e, reason=None, destination="b"):
    labels = {"destination": destination}
    if reason:
        labels["reason"] = reason
    return e.value("traceweir_lost_spans_total", **labels)


def ids(body):
    return set(otlp.spans_of(body))


def deliver(e, sink, count=3, spans=4):
    """Sends traces, waits until the backend has them all and the books say so; their ids."""
    want = set()
    for _ in range(count):
        body = otlp.good(spans)
        want |= ids(body)
        e.send(body)
    wait_for(lambda: want <= sink.unique, f"{len(want)} spans at the backend")
    m = e.settled()
    return want, m


def both(f):
    """The same over OTLP/HTTP and OTLP/gRPC."""
    f("otlp_http", HttpSink)
    f("otlp_grpc", GrpcSink)


@case("BK-01 refuse connection")
def bk_01():
    def one(kind, sink_type):
        port = free_port()
        with engine(kind, port) as e:
            body = otlp.good(3)
            e.send(body)
            wait_for(lambda: e.value("traceweir_send_failures_total") >= 3, "three tries")
            m = e.metrics()
            assert m.sum("traceweir_queued_spans") == 3 and m.sum("traceweir_lost_spans_total") == 0
            e.oracle()
            with sink_type(port=port) as sink:
                wait_for(lambda: ids(body) <= sink.unique, "delivery when it is back")
                e.settled()
                assert sink.spans == e.value("traceweir_forwarded_spans_total")

    both(one)


@case("BK-02 black hole")
def bk_02():
    def one(kind, sink_type):
        calls = []
        with sink_type(lambda n, body: calls.append(n) or (Sink.HOLE if n < 2 else None)) as sink:
            with engine(kind, sink.port, ["forward.0.timeout=300ms"]) as e:
                deliver(e, sink)
                e.oracle()
                e.settled()
                assert lost(e) == 0 and e.value("traceweir_send_failures_total") >= 2

    both(one)
    with black_hole() as hole, engine("otlp_grpc", hole.port, ["forward.0.timeout=200ms", "drain.most=1s"], lost=True) as e:
        e.send(otlp.good(3))
        wait_for(lambda: e.value("traceweir_send_failures_total") >= 2, "two timeouts")
        e.oracle()
        begun = time.monotonic()
        assert e.stop() == 4 and time.monotonic() - begun < 30
        assert "lost=" in e.log()


@case("BK-03 503 + Retry-After seconds / HTTP-date / absurd (1 year, negative)")
def bk_03():
    times = []

    def script(n, _):
        times.append(time.monotonic())
        later = ["1", formatdate(time.time() + 2, usegmt=True), "-5", "soon", "99999999999999999999", ""]
        return (503, [("retry-after", later[n])], b"") if n < 4 else None

    with HttpSink(script) as sink, engine("otlp_http", sink.port) as e:
        deliver(e, sink, 1)
        assert times[1] - times[0] >= 0.95, times
        assert times[2] - times[1] >= 0.9, times
        assert lost(e) == 0
        e.oracle()
        e.settled()
    # A year is not waited for: what it comes to is bounded, and the drain does not wait for it at all.
    with HttpSink(lambda n, _: (503, [("retry-after", "31536000")], b"") if n == 0 else None) as sink, \
            engine("otlp_http", sink.port) as e:
        e.send(otlp.good(2))
        wait_for(lambda: sink.requests == 1, "the first try")
        begun = time.monotonic()
        assert e.stop() == 0 and time.monotonic() - begun < 15
        assert sink.spans == 2


@case("BK-04 429")
def bk_04():
    with HttpSink(lambda n, _: (429, [], b"slow down") if n < 3 else None) as sink, engine("otlp_http", sink.port) as e:
        deliver(e, sink)
        assert lost(e) == 0 and e.value("traceweir_send_retries_total") >= 3
        e.oracle()
        e.settled()


@case("BK-05 400/401/403/404/413/500: no retry, counted")
def bk_05():
    for status in (400, 401, 403, 404, 413, 500):
        with HttpSink(lambda n, _: (status, [], b"<b>no</b>\n") if n == 0 else None) as sink, \
                engine("otlp_http", sink.port, lost=True) as e:
            e.send(otlp.good(3))
            wait_for(lambda: lost(e, "permanent_error") == 3, f"{status} counted as lost")
            assert sink.requests == 1
            deliver(e, sink, 1)
            assert e.value("traceweir_send_retries_total") == 0
            if status == 400:
                e.oracle()
    with GrpcSink(lambda n, _: (3, "no", None) if n == 0 else None) as sink, engine("otlp_grpc", sink.port, lost=True) as e:
        e.send(otlp.good(3))
        wait_for(lambda: lost(e, "permanent_error") == 3, "INVALID_ARGUMENT counted as lost")
        deliver(e, sink, 1)


@case("BK-06 UNAVAILABLE + RetryInfo; RESOURCE_EXHAUSTED with and without RetryInfo")
def bk_06():
    times = []

    def script(n, _):
        times.append(time.monotonic())
        return [(14, "later", retry_info(14, 1)), (8, "later", retry_info(8, 0, 300_000_000)), (14, "later", None), None][min(n, 3)]

    with GrpcSink(script) as sink, engine("otlp_grpc", sink.port) as e:
        deliver(e, sink, 1)
        assert times[1] - times[0] >= 0.95 and times[2] - times[1] >= 0.28, times
        assert lost(e) == 0
        e.oracle()
        e.settled()
    with GrpcSink(lambda n, _: (8, "never", None) if n == 0 else None) as sink, engine("otlp_grpc", sink.port, lost=True) as e:
        e.send(otlp.good(2))  # without RetryInfo: OTLP says not to try again
        wait_for(lambda: lost(e, "permanent_error") == 2, "counted as lost")
        deliver(e, sink, 1)


@case("BK-07 partial success (some/all rejected; message only)")
def bk_07():
    def answer(rejected, text):
        return otlp.message(1, (otlp.number(1, rejected) if rejected else b"") + otlp.message(2, text))

    proto = [("content-type", "application/x-protobuf")]
    answers = [(200, proto, answer(1, "one is odd")), (200, proto, answer(3, "all")), (200, proto, answer(0, "a hint")),
               (200, proto, answer(1 << 40, "more than there were"))]
    with HttpSink(lambda n, _: answers[n] if n < len(answers) else None) as sink, engine("otlp_http", sink.port, lost=True) as e:
        for total in (1, 4, 4, 7):
            e.send(otlp.good(3))
            e.settled()
            wait_for(lambda: lost(e, "rejected") == total, f"{total} spans rejected by the backend")
        assert sink.requests == 4 and e.value("traceweir_send_retries_total") == 0
        e.oracle()


@case("BK-08 200 + garbage body")
def bk_08():
    proto = [("content-type", "application/x-protobuf")]
    with HttpSink(lambda n, _: (200, proto, b"\xff\xff garbage") if n % 2 == 0 else (200, [("content-type", "text/html")], b"<html>")) \
            as sink, engine("otlp_http", sink.port) as e:
        _, m = deliver(e, sink, 4)
        assert m.sum("traceweir_lost_spans_total") == 0 and m.sum("traceweir_send_retries_total") == 0
        e.oracle()
        e.settled()
    with GrpcSink(lambda n, _: ("raw", b"\xff\xff\xff")) as sink, engine("otlp_grpc", sink.port) as e:
        _, m = deliver(e, sink, 4)
        assert m.sum("traceweir_lost_spans_total") == 0 and m.sum("traceweir_send_retries_total") == 0


@case("BK-09 oversized or bomb response (> 4 MiB)")
def bk_09():
    import gzip
    bomb = gzip.compress(bytes(64 << 20), 9)
    proto = [("content-type", "application/x-protobuf")]
    answers = [(503, [], bytes(8 << 20)), (503, [("content-encoding", "gzip")], bomb), (200, proto, bytes(8 << 20)), None]
    with HttpSink(lambda n, _: answers[min(n, 3)]) as sink, engine("otlp_http", sink.port, lost=True) as e:
        rss = e.rss()
        for _ in range(4):
            e.send(otlp.good(2))
        e.settled()
        assert e.rss() - rss < 160 << 20
        e.oracle()
    with GrpcSink(lambda n, _: ("raw", bytes(8 << 20)) if n == 0 else None) as sink, engine("otlp_grpc", sink.port, lost=True) as e:
        e.send(otlp.good(2))
        e.settled()
        e.oracle()


@case("BK-10 GOAWAY mid-request (last-stream-id below ours, above)")
def bk_10():
    for last in (0, None):
        with GrpcSink(lambda n, _: ("goaway", last) if n < 3 else None) as sink, engine("otlp_grpc", sink.port) as e:
            deliver(e, sink, 2)
            assert lost(e) == 0 and sink.connections >= 2
            e.oracle()
            e.settled()


@case("BK-11 RST REFUSED_STREAM / ENHANCE_YOUR_CALM")
def bk_11():
    with GrpcSink(lambda n, _: ("rst", h2.REFUSED if n % 2 else h2.CANCEL) if n < 4 else None) as sink, \
            engine("otlp_grpc", sink.port) as e:
        deliver(e, sink)
        assert lost(e) == 0
        e.oracle()
        e.settled()
    # gRPC calls ENHANCE_YOUR_CALM RESOURCE_EXHAUSTED; without RetryInfo OTLP forbids another try: lost, and counted.
    with GrpcSink(lambda n, _: ("rst", h2.CALM) if n == 0 else None) as sink, engine("otlp_grpc", sink.port, lost=True) as e:
        e.send(otlp.good(2))
        wait_for(lambda: lost(e, "permanent_error") == 2, "counted as lost")
        deliver(e, sink, 1)


@case("BK-12 ack lost after accept")
def bk_12():
    def one(kind, sink_type):
        with sink_type(lambda n, _: Sink.CUT if n < 2 else None) as sink, engine(kind, sink.port) as e:
            want, m = deliver(e, sink, 1)
            assert m.sum("traceweir_lost_spans_total") == 0
            assert m.sum("traceweir_forwarded_spans_total") == len(want)
            assert sink.spans > len(want) and sink.unique == want  # duplicates, no loss
            e.oracle()
            e.settled()

    both(one)


@case("BK-13 DNS fails")
def bk_13():
    with Engine(KEEP_ALL, sets=["forward.0.name=b", "forward.0.otlp_grpc=no-such-host.invalid:4317", *FAST, "drain.most=1s"],
                expect_lost=True) as e:
        e.send(otlp.good(2))
        wait_for(lambda: e.value("traceweir_send_failures_total") >= 2, "two failed look-ups")
        e.oracle()
        assert e.value("traceweir_lost_spans_total") == 0
        assert e.stop() == 4


@case("BK-14 one of N destinations down")
def bk_14():
    with HttpSink() as sink:
        sets = ["forward.0.name=up", f"forward.0.otlp_http=http://127.0.0.1:{sink.port}", "forward.1.name=down",
                f"forward.1.otlp_grpc=127.0.0.1:{free_port()}", "forward.1.queue_bytes_max=64KiB", "drain.most=1s",
                "forward.0.batch_age=10ms", "forward.1.batch_age=10ms"]
        with Engine(KEEP_ALL, sets=sets, expect_lost=True) as e:
            want = set()
            for _ in range(20):
                body = otlp.traces(100, 4, attrs=[("pad", otlp.new_trace().hex() * 8)])
                want |= ids(body)
                e.send(body)
            wait_for(lambda: want <= sink.unique, "everything at the destination that is up")
            wait_for(lambda: e.value("traceweir_queued_spans", destination="up") == 0, "acknowledged")
            m = e.metrics()
            assert m.sum("traceweir_lost_spans_total", destination="up") == 0
            assert m.sum("traceweir_spans_refused_total") == 0
            assert m.sum("traceweir_lost_spans_total", destination="down", reason="queue_full") > 0
            e.oracle()
            assert e.stop() == 4


@case("BK-15 slow drain")
def bk_15():
    def slow(n, _):
        time.sleep(0.05)  # the backend's own slowness, under its lock: 20 requests a second

    with HttpSink(slow) as sink, engine("otlp_http", sink.port, ["forward.0.queue_bytes_max=64KiB", "forward.0.batch_bytes=4KiB"]) as e:
        want = set()
        for _ in range(40):
            body = otlp.traces(10, 2)
            status, _, _ = e.post(body)
            if status == 200:
                want |= ids(body)
            else:
                assert status == 503
        wait_for(lambda: want <= sink.unique, "all of it, at the backend's pace", 60)
        e.settled()
        assert lost(e) == 0
        e.oracle()
        e.settled()


@case("BK-16 flapping")
def bk_16():
    port = free_port()
    want, taken = set(), set()
    with engine("otlp_grpc", port) as e:
        for _ in range(4):
            with GrpcSink(port=port) as sink:
                body = otlp.good(3)
                want |= ids(body)
                e.send(body)
                wait_for(lambda: ids(body) <= sink.unique, "delivery while it is up")
            taken |= sink.unique
            body = otlp.good(2)
            want |= ids(body)
            e.send(body)
            failures = e.value("traceweir_send_failures_total")
            wait_for(lambda: e.value("traceweir_send_failures_total") > failures, "a failure while it is down")
        with GrpcSink(port=port) as sink:
            wait_for(lambda: want <= taken | sink.unique, "everything in the end")
            e.settled()
            assert lost(e) == 0
            e.oracle()
            e.settled()


@case("BK-19 permanent error in one poison batch")
def bk_19():
    poison = otlp.good(2)
    bad = ids(poison)

    def script(_, body):
        return (400, [], b"poison") if ids(body) & bad else None

    with HttpSink(script) as sink, engine("otlp_http", sink.port, lost=True) as e:
        want, _ = deliver(e, sink, 1)
        e.send(poison)
        wait_for(lambda: lost(e, "permanent_error") == 2, "the poison is counted as lost")
        deliver(e, sink, 3)
        assert lost(e) == 2
        e.oracle()


if __name__ == "__main__":
    run()
