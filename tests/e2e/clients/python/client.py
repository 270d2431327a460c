"""client.py PROTOCOL COMPRESSION ENDPOINT…: the same spans to every endpoint, and on stdout what they were."""

import json
import sys
import time

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import (Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode, TraceFlags,
                                 TraceState)

LONG = "a fish weir lets the river through 🐟 " * 1000


def exporter(protocol, compression, endpoint):
    if protocol == "grpc":
        import grpc
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        kind = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
        return OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True, compression=kind)
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    kind = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    return OTLPSpanExporter(endpoint=f"http://{endpoint}/v1/traces", compression=kind)


# ---- what was sent, as the SDK itself says ----
def value(v):
    if isinstance(v, bool):
        return {"bool": v}
    if isinstance(v, int):
        return {"int": str(v)}
    if isinstance(v, float):
        return {"double": v if v == v and abs(v) != float("inf") else str(v)}
    if isinstance(v, bytes):
        return {"bytes": v.hex()}
    if isinstance(v, str):
        return {"string": v}
    if v is None:
        return {"empty": True}
    if hasattr(v, "items"):
        return {"map": attributes(v)}
    return {"array": [value(i) for i in v]}


def attributes(a):
    return [[k, value(v)] for k, v in (a or {}).items()]


def said(s):
    return {
        "trace_id": f"{s.context.trace_id:032x}", "span_id": f"{s.context.span_id:016x}",
        "parent_span_id": f"{s.parent.span_id:016x}" if s.parent else "", "name": s.name, "kind": s.kind.name,
        "start": str(s.start_time), "end": str(s.end_time), "trace_state": s.context.trace_state.to_header(),
        "status": {"code": s.status.status_code.name, "message": s.status.description or ""},
        "attributes": attributes(s.attributes),
        "events": [{"name": e.name, "time": str(e.timestamp), "attributes": attributes(e.attributes)}
                   for e in s.events],
        # No trace_state: the exporter does not send that of a link.
        "links": [{"trace_id": f"{x.context.trace_id:032x}", "span_id": f"{x.context.span_id:016x}",
                   "attributes": attributes(x.attributes)} for x in s.links],
        "resource": attributes(s.resource.attributes),
        "scope": {"name": s.instrumentation_scope.name, "version": s.instrumentation_scope.version or ""},
    }


class Manifest(SpanProcessor):
    def __init__(self):
        self.spans = []

    def on_end(self, span):
        self.spans.append(said(span))


# ---- a small shop ----
EVERY_TYPE = {
    "text": "plain", "text.empty": "", "text.unicode": "größer 日本語 🐟 \u0001\t\n", "text.long": LONG,
    "größe": "a key outside of ASCII", "yes": True, "no": False, "int.min": -2**63, "int.max": 2**63 - 1, "int.zero": 0,
    "double": 0.1, "double.large": 1.7976931348623157e308, "double.small": -5e-324, "double.whole": 3.0,
    "double.inf": float("inf"), "double.nan": float("nan"), "texts": ["a", "", "ü"], "bools": [True, False],
    "ints": [-2**63, 0, 2**63 - 1], "doubles": [0.5, -0.0], "none": [], "bytes": bytes(range(256)),
}


def remote_parent(i):
    state = TraceState([("vendor", f"t{i}"), ("other", "a-b_c")])
    context = SpanContext((time.time_ns() << 64) + i + 1, 0xeee19b7ec3c1b100 + i, True,
                          TraceFlags(TraceFlags.SAMPLED), state)
    return trace.set_span_in_context(NonRecordingSpan(context))


def order(i, front, stock, before):
    parent = remote_parent(i) if i % 3 == 2 else None
    links = [Link(before.get_span_context(), {"reason": "again", "n": i})] if before else []
    root = front.start_span(f"GET /orders/{{id}} ü{i % 2}", context=parent, kind=SpanKind.SERVER, links=links,
                            attributes={"http.request.method": "GET", "url.path": f"/orders/{i}"})
    here = trace.set_span_in_context(root)
    work = front.start_span("everything", context=here, attributes=EVERY_TYPE)
    work.add_event("began", {"at": i, "ok": True, "tags": ["x", "y"]})
    work.add_event("no attributes")
    call = front.start_span("GET stock", context=here, kind=SpanKind.CLIENT)
    served = stock.start_span("GET /stock", context=trace.set_span_in_context(call), kind=SpanKind.SERVER)
    put = stock.start_span("orders publish", context=trace.set_span_in_context(served), kind=SpanKind.PRODUCER)
    taken = stock.start_span("orders process", context=trace.set_span_in_context(put), kind=SpanKind.CONSUMER)
    try:
        raise ValueError("no stock — größer")
    except ValueError as e:
        served.record_exception(e)
    served.set_status(Status(StatusCode.ERROR, "out of stock: größer"))
    call.set_status(Status(StatusCode.OK))
    for span in (taken, put, served, call, work, root):
        span.end()
    return root


def provider(service, manifest, exporters):
    p = TracerProvider(resource=Resource.create({
        "service.name": service, "service.version": "1.2.3-ü", "deploy.parts": ["a", "b"], "deploy.size": 7,
        "deploy.share": 0.25, "deploy.live": True}))
    p.add_span_processor(manifest)
    for e in exporters():
        p.add_span_processor(BatchSpanProcessor(e, schedule_delay_millis=200))
    return p


def main():
    protocol, compression, endpoints = sys.argv[1], sys.argv[2], sys.argv[3:]
    manifest = Manifest()
    make = lambda: [exporter(protocol, compression, e) for e in endpoints]
    providers = [provider("shop-front", manifest, make), provider("shop-stock", manifest, make)]
    front = providers[0].get_tracer("shop.front", "1.0.0")
    stock = providers[1].get_tracer("shop.stock-größe", "2.0", schema_url="https://opentelemetry.io/schemas/1.26.0")
    before = None
    for i in range(9):
        before = order(i, front, stock, before)
    with front.start_as_current_span("a trace of several requests"):
        for i in range(700):
            front.start_span(f"step {i % 7}", attributes={"i": i}).end()
    for p in providers:
        if not p.force_flush(30000):
            sys.exit("the SDK says that it could not export everything")
        p.shutdown()
    json.dump({"spans": manifest.spans}, sys.stdout)


main()
