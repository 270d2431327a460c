"""traceweir as a child process: started with flags, watched through its log and its /metrics."""

import http.client
import os
import re

from harness import metrics
from harness.process import Process, await_, check, free_port

RULES = """\
wait: { root: 300ms, idle: 800ms, most: 10s }
rules:
  - name: everything
    keep: all
"""
RULE = "everything"
REASONS = {"root", "idle", "most", "memory", "size", "drain", "late"}


class Engine(Process):
    def __init__(self, binary, directory, rules=RULES, sets=(), name="traceweir", workers=2):
        self.rules_path = os.path.join(directory, f"{name}-rules.yaml")
        with open(self.rules_path, "w", encoding="utf-8") as f:
            f.write(rules)
        self.admin_port = free_port()
        argv = [binary, "run", "--set", f"rules={self.rules_path}", "--set", f"workers={workers}",
                "--set", "memory_max=1GiB", "--set", "receive.otlp_grpc=127.0.0.1:0",
                "--set", "receive.otlp_http=127.0.0.1:0", "--set", f"admin.listen=127.0.0.1:{self.admin_port}"]
        for one in sets:
            argv += ["--set", one]
        super().__init__(name, argv, directory)

    def await_ready(self):
        line = await_("the line that says traceweir is running", self._running, alive=[self])
        self.grpc_port = int(re.search(r"otlp_grpc_port=(\d+)", line).group(1))
        self.http_port = int(re.search(r"otlp_http_port=(\d+)", line).group(1))
        await_("/readyz", lambda: self._get_or_none("/readyz") == 200, alive=[self])
        return self

    def _running(self):
        return next((line for line in self.log().splitlines() if "traceweir is running" in line), None)

    def _get_or_none(self, path):
        try:
            return self.get(path)[0]
        except OSError:
            return None

    def get(self, path, headers=None):
        """(status, headers, body) of an admin page."""
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30)
        try:
            connection.request("GET", path, headers=headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def metrics(self):
        status, _, body = self.get("/metrics")
        check(status == 200, f"/metrics answered {status}")
        return metrics.Scrape(body)

    def await_forwarded(self, spans, destinations):
        """Until every span was received and acknowledged by each destination, with balanced books on the way."""
        def done():
            m = self.metrics()
            m.check_books()
            lost = m.sum("traceweir_lost_spans_total")
            check(lost == 0, f"{lost} spans were lost")
            return (m.sum("traceweir_spans_received_total") == spans and
                    all(m.value("traceweir_forwarded_spans_total", destination=d) == spans for d in destinations))
        await_(f"{spans} spans at {', '.join(destinations)}", done, alive=[self])
        return self.metrics()
