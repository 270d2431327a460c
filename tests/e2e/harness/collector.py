"""A real OpenTelemetry Collector: OTLP receivers, each with a file of its own."""

import os
import socket

from harness import peers
from harness.process import Process, await_, check, free_port
from harness.spans import read_otlp_lines


class Collector(Process):
    """One pipeline for each name: ports[name] is (gRPC, HTTP), spans(name) is what arrived there."""

    def __init__(self, directory, pipelines):
        self.ports = {name: (free_port(), free_port()) for name in pipelines}
        self._directory = directory
        config = os.path.join(directory, "collector.yaml")
        with open(config, "w", encoding="utf-8") as f:
            f.write(self._config())
        super().__init__("collector", [*peers.get("collector"), "--config", config], directory)

    def path(self, name):
        return os.path.join(self._directory, f"collector-{name}.jsonl")

    def _config(self):
        receivers, exporters, pipelines = "", "", ""
        for name, (grpc, http) in self.ports.items():
            receivers += (f"  otlp/{name}:\n    protocols:\n"
                          f"      grpc: {{ endpoint: '127.0.0.1:{grpc}', max_recv_msg_size_mib: 64 }}\n"
                          f"      http: {{ endpoint: '127.0.0.1:{http}' }}\n")
            exporters += f"  file/{name}: {{ path: '{self.path(name)}', flush_interval: 100ms }}\n"
            pipelines += f"    traces/{name}: {{ receivers: [otlp/{name}], exporters: [file/{name}] }}\n"
        return (f"receivers:\n{receivers}exporters:\n{exporters}service:\n"
                f"  telemetry: {{ metrics: {{ level: none }}, logs: {{ level: warn }} }}\n  pipelines:\n{pipelines}")

    def await_ready(self):
        def listens():
            for pair in self.ports.values():
                for port in pair:
                    with socket.socket() as s:
                        if s.connect_ex(("127.0.0.1", port)) != 0:
                            return False
            return True
        await_("the Collector's ports", listens, alive=[self])
        return self

    def finish(self):
        """Stops it, so that its files are complete."""
        code = self.stop()
        check(code == 0, f"the Collector ended with {code}")

    def spans(self, name):
        return read_otlp_lines(self.path(name))
