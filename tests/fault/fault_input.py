#!/usr/bin/env python3
"""Hostile bodies, over OTLP/HTTP and OTLP/gRPC, into the real binary."""
import gzip
import json
import struct
import sys
import pathlib
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import h2
import otlp
from cases import case, run
from engine import Engine, KEEP_ALL, SANITIZED, in_threads, wait_for

MIB = 1 << 20
INVALID, EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 3, 8, 12, 14


def received(e):
    return e.value("traceweir_spans_received_total")


def refused_everywhere(e, body, http_status, grpc_status, retry=False, headers=(), grpc_headers=(), text=None):
    """The body gets the same answer over both protocols, and leaves nothing behind."""
    before = received(e)
    status, answer, head = e.post(body, headers)
    assert status == http_status, f"HTTP {status} {answer[:200]!r}"
    if head.get("content-type") == "application/x-protobuf":
        code, message, delay = otlp.status_of(answer)
        assert code == grpc_status, f"code {code}"
        assert (delay is not None) == retry, f"retry {delay}"
        assert text is None or text in message, message
    assert ("retry-after" in head) == retry, head
    a = e.call(body, grpc_headers)
    assert a.grpc_status == grpc_status, f"gRPC {a.grpc_status} {a.message}"
    if not retry:
        assert a.header("grpc-status-details-bin") is None or b"RetryInfo" not in unpad(a), "RetryInfo"
    assert text is None or text in a.message, a.message
    assert received(e) == before, "spans were counted"


def unpad(a):
    import base64
    v = a.header("grpc-status-details-bin")
    return base64.b64decode(v + "=" * (-len(v) % 4))


def accepted(e, body, spans, rejected=0, headers=(), kind="application/x-protobuf"):
    """The body is taken: so many spans accepted, so many rejected; the message."""
    m = e.metrics()
    a0, r0 = m.sum("traceweir_spans_accepted_total"), m.sum("traceweir_spans_rejected_total")
    status, answer, _ = e.post(body, headers, kind=kind)
    assert status == 200, f"{status} {answer[:300]!r}"
    text = ""
    if kind == "application/x-protobuf":
        got, text = otlp.rejected_of(answer)
    else:
        got = int(json.loads(answer).get("partialSuccess", {}).get("rejectedSpans", 0))
    assert got == rejected, f"rejected {got}: {text}"
    m = e.metrics()
    assert m.sum("traceweir_spans_accepted_total") == a0 + spans
    assert m.sum("traceweir_spans_rejected_total") == r0 + rejected
    return text


# ---- compression ----

def gzip_bomb(mib):
    """mib MiB of zeros as one gzip member: the same compressed block again and again."""
    z = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(MIB)
    first = z.compress(zeros) + z.flush(zlib.Z_FULL_FLUSH)
    second = z.compress(zeros) + z.flush(zlib.Z_FULL_FLUSH)
    return (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + first + second * (mib - 1) + z.flush(zlib.Z_FINISH) +
            struct.pack("<II", 0, mib << 20 & 0xFFFFFFFF))


def zstd_frame(blocks, window=0x88, size=None):
    """A zstd frame by hand. window: the descriptor's byte (0x88: 256 MiB); size: the frame content size, absent: None."""
    head = b"\x28\xb5\x2f\xfd"
    head += bytes([0, window]) if size is None else bytes([0xC0, window]) + struct.pack("<Q", size)
    out = bytearray(head)
    for i, (kind, n, data) in enumerate(blocks):
        out += struct.pack("<I", n << 3 | kind << 1 | (i == len(blocks) - 1))[:3] + data
    return bytes(out)


def zstd_bomb(mib, **how):
    return zstd_frame([(1, 128 << 10, b"\0")] * (mib * 8), **how)


def zstd_raw(body):
    return zstd_frame([(0, len(body), body)], window=0x38)


def memory_rise(e, work):
    """Peak bytes that work takes beyond what there was. The mark is reset first."""
    with open(f"/proc/{e.pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")
    before = e.rss()
    work()
    return e.rss("VmHWM") - before


def bomb(e, body, coding):
    cap = 64 * MIB
    rise = memory_rise(e, lambda: refused_everywhere(e, body, 413, EXHAUSTED, headers=[("content-encoding", coding)],
                                                     grpc_headers=[("grpc-encoding", coding)]))
    # The compressed body counts, too; the sanitizer's allocator keeps what was freed for a while.
    limit = (cap + len(body)) * 11 // 10 + (96 * MIB if SANITIZED else 4 * MIB)
    assert rise <= limit, f"{rise / MIB:.1f} MiB more than before"


@case("IN-01 gzip-bomb")
def in_01(e):
    bomb(e, gzip_bomb(1024), "gzip")


@case("IN-01 gzip-bomb that lies about its size")
def in_01_lie(e):
    body = gzip_bomb(256)
    for claim in (1, 100, 60 * MIB, 0xFFFFFFFF):
        status, _, _ = e.post(body[:-4] + struct.pack("<I", claim), [("content-encoding", "gzip")])
        assert status == 413, f"{claim}: {status}"


@case("IN-02 zstd-bomb without a content size")
def in_02(e):
    bomb(e, zstd_bomb(1024), "zstd")


@case("IN-02 zstd-bomb, window of 128 MiB and more, lying content size")
def in_02_window(e):
    before = received(e)
    for body in (zstd_bomb(64, window=0x88), zstd_bomb(64, window=0x90), zstd_bomb(64, window=0xF8),
                 zstd_bomb(512, window=0x38), zstd_bomb(64, size=10), zstd_bomb(1, size=1 << 62),
                 zstd_frame([(1, 128 << 10, b"\0")], window=0x38, size=1 << 40)):
        status, answer, _ = e.post(body, [("content-encoding", "zstd")])
        assert status in (400, 413), f"{status} {answer[:100]!r}"
    assert received(e) == before


@case("IN-04 nested-gzip, multi-member, trailing garbage")
def in_04(e):
    good = otlp.good(3)
    gz = [("content-encoding", "gzip")]
    half = len(good) // 2
    accepted(e, gzip.compress(good[:half]) + gzip.compress(good[half:]), 3, headers=gz)
    a = e.call(gzip.compress(good[:half]) + gzip.compress(good[half:]), [("grpc-encoding", "gzip")])
    assert a.grpc_status == 0, a.message
    for body in (gzip.compress(gzip.compress(good)), gzip.compress(good) + b"garbage", gzip.compress(good)[:-4], b"\x1f",
                 gzip.compress(good)[:20] + b"\xff" * 20):
        refused_everywhere(e, body, 400, INVALID, headers=gz, grpc_headers=[("grpc-encoding", "gzip")])
    refused_everywhere(e, zstd_raw(good) + b"garbage", 400, INVALID, headers=[("content-encoding", "zstd")],
                       grpc_headers=[("grpc-encoding", "zstd")])
    accepted(e, zstd_raw(good), 3, headers=[("content-encoding", "zstd")])
    accepted(e, zlib.compress(good), 3, headers=[("content-encoding", "deflate")])


@case("IN-05 bomb-fan-out")
def in_05(_):
    # 100 streams of 63 MiB each against a budget of twice that: some are refused retryably, none runs over.
    mib = 12 if SANITIZED else 63
    plain = otlp.traces(1) + otlp.message(99, bytes(mib * MIB))
    body = gzip.compress(plain, 1)
    with Engine(sets=[f"receive.bodies_bytes_max={2 * mib}MiB"]) as e:
        outcome = []
        lock_step = []

        def one(_):
            with h2.Client(e.grpc, timeout=120) as c:
                streams = []
                for _ in range(25):
                    s = c.open(h2.grpc_headers(more=[("grpc-encoding", "gzip")]))
                    c.data(s, h2.grpc_message(body, 1), end=False)
                    streams.append(s)
                lock_step.append(1)
                wait_for(lambda: len(lock_step) == 4, "all bodies sent", 120)
                for s in streams:
                    c.send(h2.frame(h2.DATA, h2.END_STREAM, s))
                for s in streams:
                    a = c.wait(s)
                    outcome.append((a.grpc_status, a.message, a.header("grpc-status-details-bin")))

        def many():
            with in_threads(4, one):
                pass

        rise = memory_rise(e, many)
        codes = sorted({o[0] for o in outcome})
        assert len(outcome) == 100 and set(codes) <= {0, UNAVAILABLE, EXHAUSTED}, codes
        for code, text, details in outcome:
            assert code == 0 or details is not None, f"{code} {text} without RetryInfo"
        # A body that grows is in two places while it is moved, in each of two workers; without the budget it were 6 GiB.
        limit = 4 * mib * MIB + (160 * MIB if SANITIZED else 32 * MIB)
        assert rise <= limit, f"{rise / MIB:.1f} MiB more than before"
        e.oracle()
        assert wait_for(lambda: e.value("traceweir_request_bytes_in_flight") == 0, "all bodies let go")


# ---- protobuf ----

@case("IN-06 truncated-protobuf")
def in_06(e):
    trace, root = otlp.new_trace(), otlp.new_span()
    body = otlp.request([otlp.span(trace, root, attrs=[("k", "v"), ("n", 7)], status=otlp.ERROR),
                         otlp.span(trace, parent=root)])
    before = received(e)
    with h2.Client(e.grpc) as c:
        for n in range(1, len(body)):
            a = c.call(body[:n])
            assert a.grpc_status == INVALID and a.message, f"{n} of {len(body)}: {a.grpc_status} {a.message}"
        a = c.call(body)
        assert a.grpc_status == 0
    assert received(e) == before + 2
    for n in range(1, len(body), 7):
        status, answer, _ = e.post(body[:n])
        assert status == 400 and otlp.status_of(answer)[0] == INVALID
    assert received(e) == before + 2


@case("IN-07 overlong-varint")
def in_07(e):
    good = otlp.good()
    for bad in (b"\x80" * 10 + b"\x01", b"\xff" * 10 + b"\x7f", b"\x0a" + b"\xff" * 9 + b"\x7f", b"\x00\x00",
                otlp.varint((1 << 29) << 3) + b"\0", b"\x0b", b"\x0c", b"\x0e", b"\x0f"):
        refused_everywhere(e, good + bad, 400, INVALID)
        inner = otlp.request([otlp.span(raw=bad)])
        refused_everywhere(e, inner, 400, INVALID, text="offset")


@case("IN-08 length-overflow")
def in_08(e):
    for n in (1 << 63, (1 << 64) - 1, 1 << 32, (1 << 31) - 1, 1 << 31, 100):
        refused_everywhere(e, b"\x0a" + otlp.varint(n) + b"abc", 400, INVALID)
        refused_everywhere(e, otlp.message(1, otlp.message(2, b"\x12" + otlp.varint(n) + b"abc")), 400, INVALID)
        refused_everywhere(e, otlp.request([otlp.span(raw=b"\x2a" + otlp.varint(n))]), 400, INVALID)


@case("IN-09 deep-anyvalue")
def in_09(e):
    for field in (5, 6):
        v = otlp.any_value("x")
        for _ in range(10000):
            v = otlp.message(field, otlp.message(1, v) if field == 5 else
                             otlp.message(1, otlp.message(1, "k") + otlp.message(2, v)))
        attr = otlp.message(1, "deep") + otlp.message(2, v)
        refused_everywhere(e, otlp.request([otlp.span(raw=otlp.message(9, attr))]), 400, INVALID, text="nest")


@case("IN-10 million-empty-children")
def in_10(e):
    # 10 M empty spans, then 5 M empty attributes of one span, 20 MiB each.
    spans = otlp.message(1, otlp.message(2, b"\x12\0" * 10_000_000))
    attrs = otlp.request([otlp.span(raw=b"\x4a\0" * 5_000_000)])
    for body in (spans, attrs):
        def send():
            status, answer, _ = e.post(body, timeout=120)
            if status == 200:
                assert otlp.rejected_of(answer)[0] == 1, answer[:100]
            else:
                assert status in (400, 413), f"{status} {answer[:200]!r}"

        rise = memory_rise(e, send)
        limit = 4 * len(body) + (160 * MIB if SANITIZED else 0)
        assert rise <= limit, f"{rise / len(body):.1f} times the body"


@case("IN-11 repeated-singular")
def in_11(e):
    # One resource in a million pieces: merged, as protobuf says, in linear time.
    piece = otlp.message(1, b"")
    last = otlp.message(1, otlp.resource("merged"))
    spans = otlp.message(2, otlp.message(2, otlp.span()))
    body = otlp.message(1, piece * 1_000_000 + spans + last)
    accepted(e, body, 1)
    assert e.value("traces_span_metrics_calls_total", service_name="merged") == 1


@case("IN-12 bad-ids")
def in_12(e):
    trace = otlp.new_trace()
    bad = [otlp.span(b"\0" * 16), otlp.span(b""), otlp.span(b"\1" * 15), otlp.span(b"\1" * 17),
           otlp.span(trace, b"\0" * 8), otlp.span(trace, b""), otlp.span(trace, b"\1" * 7), otlp.span(trace, b"\1" * 9)]
    m = e.metrics()
    ids = m.by("traceweir_spans_rejected_total", "reason")
    text = accepted(e, otlp.request(bad + [otlp.span(trace)] * 3), 3, rejected=8)
    assert "id" in text, text
    now = e.metrics().by("traceweir_spans_rejected_total", "reason")
    assert now["invalid_trace_id"] - ids["invalid_trace_id"] == 4
    assert now["invalid_span_id"] - ids["invalid_span_id"] == 4
    accepted(e, otlp.request(bad), 0, rejected=8)


# ---- JSON ----

@case("IN-13 json-edge")
def in_13(e):
    js = "application/json"

    def one(**more):
        return otlp.json_request([otlp.json_span(**more)])

    for body in (one(kind=2), one(unknownField={"a": [1, None]}), one(startTimeUnixNano=5),
                 one(endTimeUnixNano=str(2**64 - 1)), one(attributes=[{"key": "n", "value": {"intValue": "9007199254740993"}}]),
                 one(attributes=[{"key": "n", "value": {"intValue": -5}}]), one(attributes=[{"key": "d", "value": {"doubleValue": "NaN"}}]),
                 one(attributes=[{"key": "d", "value": {"doubleValue": 1e308}}])):
        accepted(e, body, 1, kind=js)
    upper = otlp.json_span()
    upper["traceId"], upper["spanId"] = upper["traceId"].upper(), upper["spanId"].upper()
    accepted(e, otlp.json_request([upper]), 1, kind=js)
    accepted(e, one(name="x" * 500_000), 1, kind=js)
    before = received(e)
    for bad in ("", "{", "[]", "nul", '{"resourceSpans":[}', one()[:-1], one() + "x", "[" * 100_000,
                '{"resourceSpans":' * 100_000, one(startTimeUnixNano="1e400"), one(startTimeUnixNano="x"),
                one(attributes=[{"key": "n", "value": {"intValue": "9223372036854775808"}}]),
                one(kind="SPAN_KIND_SERVER"), one(kind="SPAN_KIND_NONSENSE"), one(traceId="zz" * 16), '{"resourceSpans": NaN}'):
        status, answer, _ = e.post(bad, kind=js)
        assert status == 400 and json.loads(answer)["message"], f"{status} {answer[:200]!r} for {bad[:80]}"
    assert received(e) == before
    # Defined, one way or the other, and never more than that: a BOM, lone surrogates, duplicate keys, ten megabytes.
    for odd in (b"\xef\xbb\xbf" + one().encode(), one(name="\ud800"), one().replace('"kind"', '"kind": 1, "kind"'),
                one(name="x" * 10_000_000)):
        status, answer, _ = e.post(odd, kind=js)
        assert status in (200, 400), f"{status} {answer[:200]!r}"


# ---- text ----

BAD_UTF8 = b"\xff\xfe"


@case("IN-14 invalid-utf8")
def in_14(e):
    good = otlp.span()
    bad = [otlp.span(name=BAD_UTF8), otlp.span(tracestate=BAD_UTF8), otlp.span(attrs=[("k", BAD_UTF8)]),
           otlp.span(raw=otlp.message(9, otlp.message(1, BAD_UTF8) + otlp.message(2, otlp.any_value("v")))),
           otlp.span(raw=otlp.message(15, otlp.message(2, BAD_UTF8))),
           otlp.span(raw=otlp.message(11, otlp.fixed64(1, 1) + otlp.message(2, BAD_UTF8))),
           otlp.span(raw=otlp.message(13, otlp.message(1, otlp.new_trace()) + otlp.message(2, otlp.new_span()) +
                                      otlp.message(3, BAD_UTF8))),
           otlp.span(name=b"\xc0\x80"), otlp.span(name=b"\xed\xa0\x80"), otlp.span(name=b"\xf4\x90\x80\x80")]
    for b in bad:
        accepted(e, otlp.request([good, b, otlp.span()]), 2, rejected=1)
    assert "UTF-8" in accepted(e, otlp.request(bad), 0, rejected=len(bad))
    accepted(e, otlp.request([otlp.span()] * 2, service=BAD_UTF8), 0, rejected=2)
    e.settled()
    for line in e.kept_lines():
        json.loads(line)


@case("IN-15 time-nonsense")
def in_15(e):
    now = time.time_ns()
    times = [(now, now - 10**9), (0, 0), (0, 2**64 - 1), (2**64 - 1, 0), (2**64 - 1, 2**64 - 1), (2**63, 2**63 + 5),
             (now - 3600 * 10**9, now), (now + 3600 * 10**9, now + 3601 * 10**9)]
    trace = otlp.new_trace()
    accepted(e, otlp.request([otlp.span(trace, parent=b"\1" * 8, start=s, end=t) for s, t in times] +
                             [otlp.span(start=s, end=t) for s, t in times], service="nonsense"), 2 * len(times))
    m = e.settled()
    name = "traces_span_metrics_duration_milliseconds"
    assert m.sum(name + "_count", service_name="nonsense") == 2 * len(times)
    total = m.sum(name + "_sum", service_name="nonsense")
    assert 0 <= total < 2**66 / 1e6 * 2, total
    assert m.sum(name + "_bucket", service_name="nonsense", le="+Inf") == 2 * len(times)


@case("IN-16 dup-span-ids, dup-attributes, self-parent, cycle, two roots, no root")
def in_16(e):
    t = [otlp.new_trace() for _ in range(6)]
    a, b = otlp.new_span(), otlp.new_span()
    shapes = [otlp.span(t[0], a), otlp.span(t[0], a), otlp.span(t[1], a, attrs=[("k", "1"), ("k", "2"), ("k", 3)]),
              otlp.span(t[2], a, parent=a), otlp.span(t[3], a, parent=b), otlp.span(t[3], b, parent=a),
              otlp.span(t[4], a), otlp.span(t[4], b), otlp.span(t[5], a, parent=otlp.new_span())]
    decided = e.value("traceweir_traces_decided_total")
    accepted(e, otlp.request(shapes), len(shapes))
    wait_for(lambda: e.value("traceweir_traces_decided_total") >= decided + 6, "all shapes decided")
    e.settled()


@case("IN-19 tracestate-garbage")
def in_19(e):
    states = [",".join(f"k{i}=v" for i in range(33)), "ot=" + "x" * 257, "ot=th:ABCDEF", "ot=th:" + "1" * 15, "ot=th:",
              "ot=", "ot=th:8,ot=th:4", "ot=rv:00000000000000;th:8", "=", ",,,", "ot=th:8;;th:4", " ot = th:8 ",
              "x" * 4096, "ot=rv:zz"]
    spans = [otlp.span(tracestate=s.encode()) for s in states]
    accepted(e, otlp.request(spans, service="tracestates"), len(spans))
    e.settled()
    wait_for(lambda: sum(line.count('"traceState"') for line in e.kept_lines() if "tracestates" in line) > 0, "the lines")
    for line in e.kept_lines():
        json.loads(line)


@case("IN-20 content-type-mismatch")
def in_20(e):
    body, js = otlp.good(), otlp.json_request([otlp.json_span()])
    before = received(e)
    for kind, sent, want in (("application/json", body, 400), ("application/x-protobuf", js, 400), (None, body, 415),
                             ("text/plain", body, 415), ("application/x-protobuf2", body, 415), ("", body, 415)):
        status, answer, _ = e.post(sent, kind=kind)
        assert status == want, f"{kind}: {status} {answer[:200]!r}"
    for coding in ("br", "snappy", "gzip, gzip", "lz4"):
        status, _, _ = e.post(body, [("content-encoding", coding)])
        assert status == 415, f"{coding}: {status}"
        a = e.call(body, [("grpc-encoding", coding)])
        assert a.grpc_status == UNIMPLEMENTED, f"{coding}: {a.grpc_status}"
    with h2.Client(e.grpc) as c:
        for kind in ("application/grpc+json", "application/grpc-web", None):
            s = c.open(h2.grpc_headers(content_type=kind))
            c.data(s, h2.grpc_message(body))
            a = c.wait(s)
            assert a.header(":status") in ("415", "404", "200") and a.grpc_status != 0, f"{kind}: {a.headers}"
    assert received(e) == before
    accepted(e, js, 1, kind="application/json; charset=utf-8")
    accepted(e, body, 1, kind="application/x-protobuf")


@case("IN-21 label-injection")
def in_21(e):
    evil = ['a"b', "a\\b", "a\nb", 'x"} 1\nfake_metric 7', "ünïcödé 日本", "<script>alert(1)</script>", "\x01\x7f", ""]
    for s in evil:
        accepted(e, otlp.request([otlp.span(name=s)], service=s), 1)
    accepted(e, otlp.request([otlp.span(name="n" * 500_000)], service="s" * MIB), 1)
    for accept in (None, "application/openmetrics-text"):
        status, text, _ = e.get(accept=accept)
        assert status == 200 and "\nfake_metric" not in text and len(text) < 8 * MIB
        promtool(text) if accept is None else check_openmetrics(text)
    status, page, _ = e.get("/")
    assert status == 200 and "<script>alert" not in page


def promtool(text):
    """Every line is a sample or a comment in the text format; where promtool is at hand, it finds nothing to parse wrongly."""
    import shutil
    import subprocess
    for line in text.splitlines():
        assert line.startswith("#") or " " in line, line[:200]
    if shutil.which("promtool"):
        p = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
        assert b"error while linting" not in p.stderr and b"parse" not in p.stderr, p.stderr[-500:]


def check_openmetrics(text):
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1
    for line in text.splitlines():
        assert line.startswith("# ") or " " in line, line[:200]


@case("IN-22 exemplar-too-long")
def in_22(e):
    # There are no exemplars yet: whatever a span holds, none appears, and the page stays valid.
    accepted(e, otlp.request([otlp.span(attrs=[("k" * 129, "v" * 4096)], name="exemplar")]), 1)
    _, text, kind = e.get(accept="application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text"), kind
    check_openmetrics(text)
    for line in text.splitlines():
        assert line.startswith("#") or " # {" not in line, line


if __name__ == "__main__":
    run(lambda: Engine(KEEP_ALL), lambda e: e.oracle())
