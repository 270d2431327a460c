#!/usr/bin/env python3
"""Hostile HTTP/2, gRPC and HTTP/1 into the real binary: frames and bytes by hand."""
import pathlib
import socket
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import h2
import otlp
from cases import case, run
from engine import Engine, KEEP_ALL, SANITIZED, wait_for

MIB = 1 << 20
INVALID, DEADLINE, EXHAUSTED, UNIMPLEMENTED, UNAVAILABLE = 3, 4, 8, 12, 14


def received(e):
    return e.value("traceweir_spans_received_total")


def send_until_closed(c, data, times):
    """Sends data up to `times` times, or until the peer has had enough. True: it had."""
    try:
        for _ in range(times):
            c.send(data)
    except (h2.Closed, socket.timeout):
        return True
    return False


def ended_calmly(c, code=h2.CALM):
    """The connection is ended by the engine with a GOAWAY of this code. A reset can destroy the GOAWAY on its way."""
    bye = c.until_closed()
    assert bye is None or bye[1] == code, f"GOAWAY {bye}"
    return bye


def memory_bound(e, before, mib):
    rise = e.rss() - before
    limit = mib * MIB + (64 * MIB if SANITIZED else 0)
    assert rise <= limit, f"{rise / MIB:.1f} MiB more"


# ---- HTTP/2 ----

@case("H2-01 rapid-reset")
def h2_01(e):
    n0, rss = received(e), e.rss()
    with h2.Client(e.grpc) as c:
        head, stream, over = h2.block(h2.grpc_headers()), 1, False
        try:
            for _ in range(200):
                out = bytearray()
                for _ in range(100):
                    out += h2.frame(h2.HEADERS, h2.END_HEADERS, stream, head) + h2.rst(stream)
                    stream += 2
                c.send(bytes(out))
        except h2.Closed:
            over = True
        ended_calmly(c)
        assert over or stream > 2001
    assert received(e) == n0
    memory_bound(e, rss, 16)


@case("H2-02 made-you-reset")
def h2_02(e):
    # The peer makes us reset its streams: a window update of 0, and DATA on a stream that it has half closed.
    n0 = received(e)
    for provoke in (lambda s: h2.window(s, 0), lambda s: h2.frame(h2.DATA, 0, s, b"x")):
        with h2.Client(e.grpc) as c:
            head, stream = h2.block(h2.grpc_headers()), 1
            try:
                for _ in range(100):
                    out = bytearray()
                    for _ in range(50):
                        flags = h2.END_HEADERS | (h2.END_STREAM if provoke(1)[3] == h2.DATA else 0)
                        out += h2.frame(h2.HEADERS, flags, stream, head) + provoke(stream)
                        stream += 2
                    c.send(bytes(out))
            except h2.Closed:
                pass
            bye = c.until_closed()
            assert bye is None or bye[1] in (h2.CALM, h2.PROTOCOL_ERROR, h2.CLOSED), bye
    assert received(e) == n0


@case("H2-03 continuation-flood")
def h2_03(e):
    rss = e.rss()
    with h2.Client(e.grpc) as c:
        over = send_until_closed(c, h2.frame(h2.HEADERS, 0, 1, h2.block(h2.grpc_headers())), 1)
        more = b"".join(h2.frame(h2.CONTINUATION, 0, 1, h2.literal(f"x-{i}", "y" * 100)) for i in range(100))
        over = over or send_until_closed(c, more, 2000)
        bye = c.until_closed()
        assert (over or bye) and (bye is None or bye[1] != h2.NO_ERROR), f"{over} {bye}"
    memory_bound(e, rss, 8)


@case("H2-04 settings-flood")
def h2_04(e):
    rss = e.rss()
    with h2.Client(e.grpc) as c:
        send_until_closed(c, h2.settings((4, 65535)) * 100, 1000)
        bye = c.until_closed()
        assert bye is None or bye[1] == h2.CALM, bye
    memory_bound(e, rss, 8)


@case("H2-05 ping-flood")
def h2_05(e):
    rss = e.rss()
    with h2.Client(e.grpc) as c:
        send_until_closed(c, h2.frame(h2.PING, 0, 0, b"12345678") * 100, 1000)
        ended_calmly(c)
    memory_bound(e, rss, 8)


@case("H2-06 empty-frame-flood")
def h2_06(e):
    with h2.Client(e.grpc) as c:
        s = c.open(h2.grpc_headers())
        send_until_closed(c, h2.frame(h2.DATA, 0, s) * 100, 1000)
        ended_calmly(c)


@case("H2-07 window-stall")
def h2_07(e):
    # No window for any answer: answers queue up, in bounds; others are served; a window lets them out.
    rss, connections = e.rss(), e.value("traceweir_connections")
    with h2.Client(e.grpc, pairs=[(4, 0)], open_window=False) as c:
        c.until(lambda: c.settings)
        streams = []
        for _ in range(90):
            s = c.open(h2.grpc_headers())
            c.data(s, h2.grpc_message(otlp.good()))
            streams.append(s)
        e.oracle()
        c.until(lambda: all(c.answer(s).headers for s in streams))
        assert not any(c.answer(s).done for s in streams)
        memory_bound(e, rss, 16)
        c.send(h2.settings((4, 65535)) + h2.window(0, MIB))
        for s in streams:
            assert c.wait(s).grpc_status == 0
    with h2.Client(e.grpc, pairs=[(4, 0)]) as c:
        for _ in range(50):
            c.data(c.open(h2.grpc_headers()), h2.grpc_message(otlp.good()))
    # Both went away with answers unsent.
    wait_for(lambda: e.value("traceweir_connections") <= connections, "connections gone")


@case("H2-08 window-dribble")
def h2_08(e):
    with h2.Client(e.grpc, pairs=[(4, 1)], open_window=False) as c:
        s = c.open(h2.grpc_headers())
        c.data(s, h2.grpc_message(otlp.request([otlp.span(b"\0" * 16)])))  # a rejected span: an answer with a text
        while not c.answer(s).done:
            had = len(c.answer(s).data)
            c.until(lambda: c.answer(s).done or len(c.answer(s).data) > had)
            if not c.answer(s).done:
                c.send(h2.window(s, 1))
        a = c.wait(s)
        assert a.grpc_status == 0 and len(a.data) > 20, a.data


@case("H2-09 hpack-bomb")
def h2_09(e):
    rss = e.rss()
    with h2.Client(e.grpc) as c:
        big = h2.literal("x-bomb", "b" * 3900, index=True)
        bomb = h2.block(h2.grpc_headers()) + big + b"\xbe" * 12000  # the entry just made, 12,000 times
        send_until_closed(c, h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, bomb[:16384]), 1)
        try:
            c.until(lambda: c.answer(1).done or c.goaway)
            a = c.answer(1)
            assert c.goaway or a.reset is not None or a.header(":status") == "431" or a.grpc_status == EXHAUSTED, a.headers
        except h2.Closed:
            pass
    memory_bound(e, rss, 8)


@case("H2-10 hpack-varint-zeros")
def h2_10(e):
    for zeros in (b"\x7f" + b"\x80" * 16000 + b"\x01", b"\x40\x7f" + b"\xff" * 16 + b"\x7f", b"\x3f" + b"\xff" * 9 + b"\x0f",
                  b"\x40\x7f\x80\xff\xff\xff\xff\x0f"):
        with h2.Client(e.grpc) as c:
            send_until_closed(c, h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, zeros), 1)
            bye = c.until_closed()
            assert bye is None or bye[1] != h2.NO_ERROR, bye


@case("H2-11 oversize-header-then-valid")
def h2_11(e):
    with h2.Client(e.grpc) as c:
        head = h2.block(h2.grpc_headers()) + h2.literal("x-kept", "in the table", index=True)
        head += b"".join(h2.literal(f"x-{i}", "y" * 1000) for i in range(30))
        s = c.new_stream()
        out = h2.frame(h2.HEADERS, h2.END_STREAM, s, head[:16384]) + h2.frame(h2.CONTINUATION, h2.END_HEADERS, s, head[16384:])
        c.send(out)
        a = c.wait(s)
        assert a.header(":status") == "431" or a.grpc_status == EXHAUSTED, f"{a.headers} {a.trailers}"
        # The table is in step: its newest entry still is the one that the refused header made.
        s = c.new_stream()
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS, s, h2.block(h2.grpc_headers()) + b"\xbe"))
        c.data(s, h2.grpc_message(otlp.good()))
        assert c.wait(s).grpc_status == 0


@case("H2-12 stream-id-reuse, exhaustion at 2^31-1")
def h2_12(e):
    head = h2.block(h2.grpc_headers())
    for ids in ((3, 1), (5, 5), (2,), (0,)):
        with h2.Client(e.grpc) as c:
            for s in ids:
                c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, s, head))
                if ids[0] == 5:
                    c.until(lambda: c.answer(5).done)
            bye = c.until_closed()
            assert bye is None or bye[1] in (h2.PROTOCOL_ERROR, h2.CLOSED), f"{ids}: {bye}"
    with h2.Client(e.grpc) as c:
        c.next_id = 2**31 - 1
        a = c.call(otlp.good())
        assert a.grpc_status == 0, a.headers


@case("H2-13 frames-after-GOAWAY")
def h2_13(e):
    with h2.Client(e.grpc) as c:
        assert c.call(otlp.good()).grpc_status == 0
        c.send(h2.goaway(0))
        stuff = h2.frame(h2.HEADERS, h2.END_HEADERS, 3, h2.block(h2.grpc_headers())) + h2.frame(h2.PING, 0, 0, b"12345678")
        send_until_closed(c, stuff + h2.frame(h2.SETTINGS, 0, 0, b"12345") + b"\xff" * 4096, 3)
        c.until_closed()
    with h2.Client(e.grpc) as c:  # the shape of CVE-2026-27135: an error of ours, then a frame of a wrong size
        send_until_closed(c, h2.window(0, 0) + h2.frame(h2.PING, 0, 0, b"123") + h2.frame(h2.PRIORITY, 0, 1, b"1"), 20)
        c.until_closed()


@case("H2-14 bad-preface, h2c upgrade")
def h2_14(e):
    for bad in (h2.PREFACE[:-1] + b"X", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", b"PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
                h2.PREFACE + b"GET / HTTP/1.1\r\n\r\n" + bytes(64), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 100):
        with h2.Client(e.grpc, preface=False) as c:
            c.send(bad)
            try:
                c.until_closed()
            except (AssertionError, IndexError, UnicodeDecodeError):
                pass  # an answer in HTTP/1
    body = otlp.good()
    status, _, head = e.post(body, [("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c"), ("http2-settings", "AAMAAABk")])
    assert status == 200, (status, head)  # an upgrade is an offer, not taken


@case("H2-15 keepalive-abuse")
def h2_15(e):
    with h2.Client(e.grpc) as c:
        assert c.call(otlp.good()).grpc_status == 0
        for _ in range(10):
            if send_until_closed(c, h2.frame(h2.PING, 0, 0, b"abcdefgh"), 1):
                break
        bye = c.until_closed()
        assert bye and bye[1] == h2.CALM and bye[2] == b"too_many_pings", bye


@case("H2-16 grpc-split-everywhere")
def h2_16(e):
    body = h2.grpc_message(otlp.good(2))
    n0 = received(e)
    cuts = range(1, len(body))
    with h2.Client(e.grpc) as c:
        for cut in cuts:
            s = c.open(h2.grpc_headers())
            c.data(s, body[:cut], end=False)
            c.data(s, body[cut:])
            assert c.wait(s).grpc_status == 0, cut
        s = c.open(h2.grpc_headers())
        c.data(s, body, size=1)
        assert c.wait(s).grpc_status == 0
    n1 = received(e)
    assert n1 == n0 + 2 * (len(cuts) + 1)
    with h2.Client(e.grpc) as c:
        for bad in (body + body, b"", body[:3], body[:-1], h2.grpc_message(otlp.good(), compressed=1),
                    h2.grpc_message(otlp.good(), compressed=2), body + b"x"):
            s = c.open(h2.grpc_headers())
            c.data(s, bad)
            a = c.wait(s)
            assert a.grpc_status == INVALID, f"{bad[:5]!r}: {a.grpc_status} {a.message}"
        s = c.open(h2.grpc_headers())
        c.data(s, h2.grpc_message(b"abc", length=2**32 - 1), end=False)
        a = c.wait(s)
        assert a.grpc_status == EXHAUSTED, f"{a.grpc_status} {a.message}"
        assert received(e) == n1
        s = c.open(h2.grpc_headers())
        c.data(s, h2.grpc_message(b""))
        assert c.wait(s).grpc_status == 0  # an empty request is a request
        s = c.open(h2.grpc_headers())
        c.data(s, body, end=False)
        c.send(h2.frame(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, s, h2.literal("x-checksum", "7")))
        assert c.wait(s).grpc_status == 0
    assert received(e) == n1 + 2


@case("H2-17 grpc-timeout-garbage, expired")
def h2_17(e):
    n0 = received(e)
    with h2.Client(e.grpc) as c:
        for bad in ("soon", "1", "S", "-1S", "123456789S", "1 S", "1s", ""):
            s = c.open(h2.grpc_headers(more=[("grpc-timeout", bad)]))
            c.data(s, h2.grpc_message(otlp.good()))
            a = c.wait(s)
            assert a.grpc_status not in (0, None) or a.header(":status") == "400", f"{bad}: {a.headers}"
        s = c.open(h2.grpc_headers(more=[("grpc-timeout", "1n")]))
        c.data(s, h2.grpc_message(otlp.good()))
        assert c.wait(s).grpc_status == DEADLINE
        s = c.open(h2.grpc_headers(more=[("grpc-timeout", "50m")]))
        c.data(s, h2.grpc_message(otlp.good())[:10], end=False)
        assert c.wait(s).grpc_status == DEADLINE
        assert received(e) == n0
        assert c.call(otlp.good(), more=[("grpc-timeout", "30S")]).grpc_status == 0


@case("H2-18 half-close-mid-message, RST mid-body")
def h2_18(e):
    n0 = received(e)
    aborted = e.value("traceweir_requests_total", outcome="aborted")
    held = e.value("traceweir_request_bytes_in_flight")  # the slow body's
    body = h2.grpc_message(otlp.good(50))
    with h2.Client(e.grpc) as c:
        s = c.open(h2.grpc_headers())
        c.data(s, body[:100])
        assert c.wait(s).grpc_status == INVALID
        s = c.open(h2.grpc_headers())
        c.data(s, body[:-1], end=False)
        c.send(h2.rst(s))
        wait_for(lambda: e.value("traceweir_requests_total", outcome="aborted") == aborted + 1, "the RST counted")
        s = c.open(h2.grpc_headers())
        c.data(s, body[:200], end=False)
    wait_for(lambda: e.value("traceweir_requests_total", outcome="aborted") == aborted + 2, "the lost one counted")
    assert received(e) == n0
    assert e.value("traceweir_request_bytes_in_flight") == held


# ---- HTTP/1 ----

def connect(e, timeout=30):
    return socket.create_connection(("127.0.0.1", e.http), timeout)


def exchange(e, data, timeout=30):
    """Sends bytes, reads until the peer closes."""
    with connect(e, timeout) as s:
        try:
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        return read_all(s)


def read_all(s):
    out = b""
    try:
        while True:
            p = s.recv(65536)
            if not p:
                return out
            out += p
    except ConnectionResetError:
        return out


def head(length=None, more=b""):
    n = b"" if length is None else b"Content-Length: %d\r\n" % length
    return b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-protobuf\r\n" + n + more + b"\r\n"


class Slow:
    """Peers that take their time, started before the other cases and looked at after them."""

    def __init__(self, e):
        self.begun = time.monotonic()
        self.count = e.value("traceweir_timeouts_total")
        self.heads = [connect(e, 90) for _ in range(20)]
        self.body = connect(e, 90)
        self.body.sendall(head(1 << 20) + b"x" * 100)
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.drip, daemon=True)
        self.thread.start()

    def drip(self):
        for s in self.heads:
            try:
                s.sendall(b"POST /v1/traces HTTP/1.1\r\n")
            except OSError:
                pass
        while not self.stop.wait(0.5):
            for s in self.heads + [self.body]:
                try:
                    s.sendall(b"X-a: b\r\n")
                except OSError:
                    pass


slow = None


@case("H1-03 TE+CL smuggling shapes")
def h1_03(e):
    body = otlp.good()
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    n0 = received(e)
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
    for shape in (head(len(body), b"Transfer-Encoding: chunked\r\n") + chunked, head(4, b"Transfer-Encoding: chunked\r\n") + chunked + smuggled,
                  head(5, b"Content-Length: 6\r\n") + body, head(None, b"Content-Length: +5\r\n") + body,
                  head(None, b"Content-Length: 5, 6\r\n") + body, head(None, b"Transfer-Encoding: xchunked\r\n") + chunked,
                  head(None, b"Transfer-Encoding : chunked\r\n") + chunked, head(None, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n") + chunked,
                  head(None, b"Transfer-Encoding: gzip\r\n") + body, head(None, b"X: a\nTransfer-Encoding: chunked\r\n") + chunked,
                  head(None, b"Transfer-Encoding:\x0bchunked\r\n") + chunked, head(None, b" Content-Length: 5\r\n") + body,
                  head(None, b"Content-Length: 99999999999999999999\r\n") + body):
        answer = exchange(e, shape)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4") or answer.startswith(b"HTTP/1.1 501"), (shape[:200], answer[:200])
        assert b"HTTP/1.1 404" not in answer, "what was smuggled was answered"
    assert received(e) == n0
    assert exchange(e, head(None, b"Transfer-Encoding: chunked\r\n") + chunked).startswith(b"HTTP/1.1 200")


@case("H1-04 chunk-size overflow, chunk extensions 1 MB")
def h1_04(e):
    n0, te = received(e), b"Transfer-Encoding: chunked\r\n"
    for bad in (b"FFFFFFFFFFFFFFFFF\r\nabc", b"10000000000000000\r\nabc", b"-5\r\nabcde", b"0x5\r\nabcde", b"\r\n\r\n", b"5\r\nabcdefgh",
                b"5;" + b"e" * (1 << 20) + b"\r\nabcde\r\n0\r\n\r\n", b"5;a=" + b"e" * (1 << 20) + b"\r\nabcde\r\n0\r\n\r\n", b"5 \r\nabcde",
                b"0\r\n" + b"x: y\r\n" * 100000 + b"\r\n"):
        answer = exchange(e, head(None, te) + bad)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), (bad[:40], answer[:200])
    assert received(e) == n0


@case("H1-05 pipelining 10,000")
def h1_05(e):
    one = otlp.request([otlp.span()])
    rss, n0, count = e.rss(), received(e), 10000
    with connect(e, 60) as s:
        data = (head(len(one)) + one) * count
        sender = threading.Thread(target=lambda: s.sendall(data), daemon=True)
        sender.start()
        got = b""
        answers = 0
        while answers < count:
            p = s.recv(1 << 16)
            assert p, f"closed after {answers}"
            got += p
            cut = max(0, len(got) - 12)
            answers += got[:cut].count(b"HTTP/1.1 200")
            tail = got[cut:]
            got = tail
            if answers == count - 1 and b"HTTP/1.1 200" in tail:
                answers += 1
        sender.join(30)
    assert received(e) == n0 + count
    memory_bound(e, rss, 64)


@case("H1-06 Expect: 100-continue")
def h1_06(e):
    body = otlp.good()
    with connect(e) as s:
        s.sendall(head(len(body), b"Expect: 100-continue\r\n"))
        assert s.recv(4096).startswith(b"HTTP/1.1 100 ")
        s.sendall(body)
        assert s.recv(4096).startswith(b"HTTP/1.1 200")
    with connect(e) as s:  # refused at once: a final answer instead of 100
        s.sendall(head(1 << 40, b"Expect: 100-continue\r\n"))
        assert s.recv(4096).startswith(b"HTTP/1.1 413")
    with connect(e) as s:
        s.sendall(head(5, b"Expect: miracles\r\n"))
        assert s.recv(4096).startswith(b"HTTP/1.1 417")


@case("H1-07 header count/size")
def h1_07(e):
    n0, body = received(e), otlp.good()
    for many in (b"".join(b"X-%d: y\r\n" % i for i in range(200)), b"X: " + b"y" * 20000 + b"\r\n", b"X" * 20000 + b": y\r\n",
                 b"X: " + b"y" * (4 << 20) + b"\r\n", b"A: b\r\n" * 1000000):
        answer = exchange(e, head(len(body), many) + body)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 431"), answer[:100]
    answer = exchange(e, b"POST /" + b"v" * 100000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer == b"" or answer.startswith(b"HTTP/1.1 414"), answer[:100]
    assert received(e) == n0
    fine = b"".join(b"X-%d: y\r\n" % i for i in range(90))
    assert exchange(e, head(len(body), fine) + body).startswith(b"HTTP/1.1 200")


@case("H1-01 slowloris headers")
def h1_01(_):
    # A header may take ten seconds, however lively it drips.
    for s in slow.heads:
        s.settimeout(60)
        answer = read_all(s)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), answer[:100]
        s.close()
    assert time.monotonic() - slow.begun >= 9.5


@case("H1-02 slow body")
def h1_02(e):
    # A body has to bring a KiB a second, over half a minute.
    slow.body.settimeout(90)
    answer = read_all(slow.body)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 408"), answer[:100]
    slow.stop.set()
    slow.thread.join()
    slow.body.close()
    assert time.monotonic() - slow.begun >= 29
    assert e.value("traceweir_timeouts_total") >= slow.count + 21


def setup():
    global slow
    e = Engine(KEEP_ALL)
    slow = Slow(e)
    return e


if __name__ == "__main__":
    run(setup, lambda e: e.oracle())
