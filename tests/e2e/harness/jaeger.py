"""A real Jaeger, in memory, asked by the HTTP API that its UI uses."""

import http.client
import json
import os
import urllib.parse

from harness import peers, spans
from harness.process import Process, await_, check, free_port

CONFIG = """\
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: {{ receivers: [otlp], exporters: [jaeger_storage_exporter] }}
  telemetry: {{ metrics: {{ level: none }}, logs: {{ level: warn }} }}
extensions:
  jaeger_storage: {{ backends: {{ memory: {{ memory: {{ max_traces: 10000 }} }} }} }}
  jaeger_query:
    storage: {{ traces: memory }}
    http: {{ endpoint: '127.0.0.1:{query}' }}
    grpc: {{ endpoint: '127.0.0.1:{query_grpc}' }}
receivers:
  otlp:
    protocols: {{ grpc: {{ endpoint: '127.0.0.1:{grpc}' }}, http: {{ endpoint: '127.0.0.1:{http}' }} }}
exporters:
  jaeger_storage_exporter: {{ trace_storage: memory }}
"""


class Jaeger(Process):
    def __init__(self, directory):
        self.ports = {name: free_port() for name in ("query", "query_grpc", "grpc", "http")}
        config = os.path.join(directory, "jaeger.yaml")
        with open(config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(**self.ports))
        super().__init__("jaeger", [*peers.get("jaeger"), "--config", config], directory)

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["query"], timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def await_ready(self):
        def ready():
            try:
                return self.get("/api/services")[0] == 200
            except OSError:
                return False
        await_("Jaeger", ready, alive=[self])
        return self

    def _json(self, path):
        status, body = self.get(path)
        check(status == 200, f"Jaeger answered {status} to {path}: {body[:300]}")
        return json.loads(body, parse_int=spans.number)

    def services(self):
        return set(self._json("/api/services")["data"] or [])

    def operations(self, service):
        return set(self._json(f"/api/services/{urllib.parse.quote(service)}/operations")["data"] or [])

    def trace(self, trace_id):
        """The trace as the UI gets it."""
        return self._json(f"/api/traces/{trace_id}")["data"][0]

    def spans(self, trace_ids):
        """All spans of these traces, whole, from API v3, which answers in OTLP/JSON."""
        found = {}
        for trace_id in trace_ids:
            spans.read_otlp(self._json(f"/api/v3/traces/{trace_id}")["result"], found, "Jaeger")
        return found
