"""A few lines of OTLP/JSON, for tests that need spans but no SDK."""

import http.client
import json
import os
import time

from harness.process import check
from harness.spans import KINDS, STATUSES


def ids(bytes_):
    return os.urandom(bytes_).hex()


class Span:
    def __init__(self, trace_id, name, kind="INTERNAL", status="UNSET", duration_ns=1_000_000, root=True):
        self.trace_id, self.span_id, self.name, self.kind, self.status = trace_id, ids(8), name, kind, status
        self.end = time.time_ns()
        self.start = self.end - duration_ns
        self.parent = "" if root else ids(8)

    def json(self):
        return {"traceId": self.trace_id, "spanId": self.span_id, "parentSpanId": self.parent, "name": self.name,
                "kind": KINDS.index(self.kind), "startTimeUnixNano": str(self.start), "endTimeUnixNano": str(self.end),
                "status": {"code": STATUSES.index(self.status)}}


def request(service, spans):
    return {"resourceSpans": [{
        "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]},
        "scopeSpans": [{"scope": {"name": "e2e"}, "spans": [s.json() for s in spans]}]}]}


def post(port, service, spans):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/traces", json.dumps(request(service, spans)),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        body = answer.read().decode()
        check(answer.status == 200 and json.loads(body) == {}, f"POST /v1/traces: {answer.status} {body}")
    finally:
        connection.close()
