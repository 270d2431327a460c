"""OTLP requests as bytes, good and bad ones, and what comes back. No protobuf library: a test must be able to
write what no library would."""
import json
import os
import struct
import time


def varint(v):
    out = bytearray()
    v &= (1 << 64) - 1
    while v >= 0x80:
        out.append(v & 0x7F | 0x80)
        v >>= 7
    out.append(v)
    return bytes(out)


def tag(field, wire_type):
    return varint(field << 3 | wire_type)


def number(field, v):
    return tag(field, 0) + varint(v)


def fixed64(field, v):
    return tag(field, 1) + struct.pack("<Q", v & (1 << 64) - 1)


def fixed32(field, v):
    return tag(field, 5) + struct.pack("<I", v)


def message(field, body):
    if isinstance(body, str):
        body = body.encode()
    return tag(field, 2) + varint(len(body)) + body


def any_value(v):
    if isinstance(v, bool):
        return number(2, int(v))
    if isinstance(v, int):
        return number(3, v)
    if isinstance(v, float):
        return tag(4, 1) + struct.pack("<d", v)
    if isinstance(v, bytes):
        return message(1, v)  # a string field, whatever is in it
    return message(1, v.encode())


def attribute(key, value):
    return message(1, key) + message(2, any_value(value))


OK, ERROR = 1, 2
SERVER = 2


def new_trace():
    return os.urandom(15) + b"\x01"


def new_span():
    return os.urandom(7) + b"\x01"


def span(trace=None, sid=None, parent=b"", name="GET /", kind=SERVER, status=0, start=None, duration_ns=1_000_000,
         end=None, attrs=(), tracestate=b"", raw=b"", root=None):
    """A Span message. parent b"": a root."""
    trace = new_trace() if trace is None else trace
    sid = new_span() if sid is None else sid
    start = time.time_ns() if start is None else start
    end = start + duration_ns if end is None else end
    out = message(1, trace) + message(2, sid)
    if tracestate:
        out += message(3, tracestate)
    if parent:
        out += message(4, parent)
    out += message(5, name) + number(6, kind) + fixed64(7, start) + fixed64(8, end)
    for k, v in attrs:
        out += message(9, attribute(k, v))
    if status:
        out += message(15, number(3, status))
    return out + raw


def resource(service="shop", attrs=()):
    out = message(1, attribute("service.name", service)) if service is not None else b""
    for k, v in attrs:
        out += message(1, attribute(k, v))
    return out


def request(spans, service="shop", resource_attrs=()):
    """An ExportTraceServiceRequest of one resource and one scope."""
    scope_spans = message(1, message(1, "test")) + b"".join(message(2, s) for s in spans)
    return message(1, message(1, resource(service, resource_attrs)) + message(2, scope_spans))


def good(n=1, status=0, service="shop", name="GET /"):
    """A request of one whole trace: a root and n − 1 children."""
    trace, root = new_trace(), new_span()
    spans = [span(trace, root, name=name, status=status)]
    spans += [span(trace, parent=root, name=name) for _ in range(n - 1)]
    return request(spans, service)


def traces(count, spans_each=1, status=0, service="shop", name="GET /", attrs=()):
    """A request of `count` traces, built quickly: its spans differ in their ids only."""
    start = time.time_ns()
    out = []
    for _ in range(count):
        trace, root = new_trace(), new_span()
        for i in range(spans_each):
            out.append(span(trace, root if i == 0 else new_span(), parent=b"" if i == 0 else root, name=name,
                            status=status, start=start, attrs=attrs))
    return request(out, service)


def json_request(spans, service="shop"):
    return json.dumps({"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "test"}, "spans": spans}]}]})


def json_span(**more):
    start = time.time_ns()
    out = {"traceId": new_trace().hex(), "spanId": new_span().hex(), "name": "GET /", "kind": 2,
           "startTimeUnixNano": str(start), "endTimeUnixNano": str(start + 1_000_000)}
    out.update(more)
    return out


# ---- reading ----

def read_varint(p, at):
    v = shift = 0
    while True:
        c = p[at]
        at += 1
        v |= (c & 0x7F) << shift
        shift += 7
        if c < 0x80:
            return v, at


def fields(p):
    """(field, value) of a message: ints, or bytes for length-delimited ones. Raises IndexError on what is cut off."""
    at = 0
    while at < len(p):
        key, at = read_varint(p, at)
        kind = key & 7
        if kind == 0:
            v, at = read_varint(p, at)
        elif kind == 1:
            v, at = struct.unpack_from("<Q", p, at)[0], at + 8
        elif kind == 5:
            v, at = struct.unpack_from("<I", p, at)[0], at + 4
        elif kind == 2:
            n, at = read_varint(p, at)
            if at + n > len(p):
                raise IndexError("a field is cut off")
            v, at = p[at:at + n], at + n
        else:
            raise IndexError(f"wire type {kind}")
        yield key >> 3, v


def first(p, field, default=None):
    for f, v in fields(p):
        if f == field:
            return v
    return default


def spans_of(body):
    """(trace id, span id) of every span of a request."""
    return [(bytes(first(s, 1, b"")), bytes(first(s, 2, b""))) for s in raw_spans(body)]


def raw_spans(body):
    out = []
    for f, rs in fields(body):
        if f != 1:
            continue
        for g, ss in fields(rs):
            if g == 2:
                out += [s for h, s in fields(ss) if h == 2]
    return out


def rejected_of(body):
    """rejected_spans and the message of an ExportTraceServiceResponse."""
    partial = first(body, 1, b"")
    return first(partial, 1, 0), bytes(first(partial, 2, b"")).decode()


def status_of(body):
    """code, message, retry delay in seconds or None, of a google.rpc.Status."""
    code, text, delay = 0, "", None
    for f, v in fields(body):
        if f == 1:
            code = v
        elif f == 2:
            text = v.decode()
        elif f == 3 and first(v, 1, b"").endswith(b"google.rpc.RetryInfo"):
            d = first(first(v, 2, b""), 1, b"")
            delay = first(d, 1, 0) + first(d, 2, 0) / 1e9
    return code, text, delay
