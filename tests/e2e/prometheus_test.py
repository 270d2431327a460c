#!/usr/bin/env python3
"""A real Prometheus scrapes both text formats, and its counters equal what was sent, to the last span."""

import http.server
import json
import os
import subprocess
import threading
import urllib.parse
import urllib.request

from harness import main, otlp, peers
from harness.engine import Engine
from harness.process import Process, await_, check, free_port

RULES = """\
wait: { root: 200ms, idle: 500ms, most: 5s }
rules:
  - name: errors
    when: '{ status = error }'
    keep: all
  - name: rest
    keep: none
"""
CLASSIC = "text/plain;version=0.0.4"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75"
# promtool's lint, by the text after the metric's name: the unit is part of the names that dashboards query.
EXPECTED_LINT = {"traces_span_metrics_duration_milliseconds": "use base unit \"seconds\" instead of \"milliseconds\""}


class ClassicOnly(http.server.BaseHTTPRequestHandler):
    """Hands /metrics on, asking for the classic text format whatever the client asked for."""

    def do_GET(self):
        status, headers, body = self.server.engine.get("/metrics", {"Accept": CLASSIC})
        self.send_response(status)
        self.send_header("Content-Type", headers["Content-Type"])
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_):
        pass


class Proxy(http.server.ThreadingHTTPServer):
    def __init__(self, engine):
        super().__init__(("127.0.0.1", 0), ClassicOnly)
        self.engine = engine
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def __exit__(self, *error):
        self.shutdown()
        super().__exit__(*error)


class Prometheus(Process):
    def __init__(self, directory, targets):
        self.port = free_port()
        config = os.path.join(directory, "prometheus.yml")
        jobs = [{"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
                for job, port in targets.items()]
        with open(config, "w", encoding="utf-8") as f:
            json.dump({"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}, "scrape_configs": jobs}, f)
        super().__init__("prometheus", [
            peers.debian("prometheus", "prometheus"), f"--config.file={config}",
            f"--storage.tsdb.path={os.path.join(directory, 'tsdb')}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn"], directory)

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=30) as answer:
            return json.load(answer)["data"]

    def await_ready(self):
        def ready():
            try:
                return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).status == 200
            except OSError:
                return False
        await_("Prometheus", ready, alive=[self])
        return self

    def series(self, expression):
        """{labels without the target's own: value}"""
        found = {}
        for one in self._get("/api/v1/query?query=" + urllib.parse.quote(expression))["result"]:
            labels = {k: v for k, v in one["metric"].items() if k not in ("__name__", "job", "instance")}
            found[frozenset(labels.items())] = float(one["value"][1])
        return found

    def target_errors(self):
        return {t["labels"]["job"]: t["lastError"] for t in self._get("/api/v1/targets")["activeTargets"]}


def expected_calls(sent):
    want = {}
    for service, spans in sent:
        for s in spans:
            key = frozenset({"service_name": service, "span_name": s.name, "span_kind": f"SPAN_KIND_{s.kind}",
                             "status_code": f"STATUS_CODE_{s.status}"}.items())
            want[key] = want.get(key, 0) + 1
    return want


def traffic():
    """Names that exposition has to escape, and 3,000 spans over 40 series."""
    sent = []
    for i in range(300):
        trace = otlp.ids(16)
        service = ("shop", 'a "quoted" \\ name', "zeile\nzwei", "größe 🐟")[i % 4]
        sent.append((service, [otlp.Span(trace, f"GET /{n}", kind=("SERVER", "CLIENT")[n % 2],
                                         status="ERROR" if i % 20 == 0 and n == 3 else "UNSET",
                                         duration_ns=(n + 1) * 3_000_000, root=n == 0) for n in range(10)]))
    return sent


def scraped(arguments, directory):
    sent = traffic()
    want = expected_calls(sent)
    total = sum(want.values())
    kept = sum(len(spans) for _, spans in sent if any(s.status == "ERROR" for s in spans))
    destination = f"forward=[{{name: file, file: '{os.path.join(directory, 'kept.jsonl')}'}}]"
    with Engine(arguments.traceweir, directory, rules=RULES, sets=[destination]) as engine:
        engine.await_ready()
        with Proxy(engine) as proxy, Prometheus(directory, {
                "openmetrics": engine.admin_port, "classic": proxy.server_address[1]}) as prometheus:
            prometheus.await_ready()
            for service, spans in sent:
                otlp.post(engine.http_port, service, spans)
            for job in ("openmetrics", "classic"):
                selector = f'{{job="{job}"}}'
                await_(f"what was sent, in Prometheus, by {job}: {prometheus.target_errors()}",
                       lambda s=selector: prometheus.series(f"traces_span_metrics_calls_total{s}") == want,
                       alive=[engine, prometheus])
                check_one(prometheus, selector, total, kept)
            errors = prometheus.target_errors()
            check(not any(errors.values()), f"Prometheus could not read a scrape: {errors}")
        check(engine.stop() == 0, "traceweir did not end well")


def check_one(prometheus, selector, total, kept):
    def only(name):
        return sum(prometheus.series(f"{name}{selector}").values())
    await_(f"{kept} kept spans", lambda: only("traceweir_spans_kept_total") == kept)
    for name, value in (("traceweir_spans_received_total", total), ("traceweir_spans_accepted_total", total),
                        ("traceweir_spans_kept_total", kept),
                        ("traces_span_metrics_duration_milliseconds_count", total)):
        check(only(name) == value, f"{name}{selector} is {only(name)}, sent were {value}")
    await_(f"{total - kept} spans let go", lambda: only("traceweir_spans_let_go_total") == total - kept)
    await_("all forwarded", lambda: only("traceweir_forwarded_spans_total") == kept)
    # 300 traces, 10 spans of 3, 6 … 30 ms each: bucket by bucket, upper bounds included
    for bound, below in (("2", 0), ("4", 300), ("6", 600), ("8", 600), ("10", 900), ("50", 3000), ("+Inf", 3000)):
        query = selector.replace("}", f', le=~"{bound.replace("+", "[+]")}([.]0)?"}}')
        got = sum(prometheus.series(f"traces_span_metrics_duration_milliseconds_bucket{query}").values())
        check(got == below, f"bucket le={bound} {selector} holds {got}, not {below}")


def parsed(arguments, directory):
    with Engine(arguments.traceweir, directory, rules=RULES) as engine:
        engine.await_ready()
        for service, spans in traffic()[:40]:
            otlp.post(engine.http_port, service, spans)
        status, headers, classic = engine.get("/metrics", {"Accept": CLASSIC})
        kind = headers["Content-Type"]
        check(status == 200 and kind.startswith("text/plain; version=0.0.4"), f"{status} {kind}")
        promtool(classic)
        _, headers, openmetrics = engine.get("/metrics", {"Accept": OPENMETRICS})
        kind = headers["Content-Type"]
        check(kind.startswith("application/openmetrics-text; version=1.0.0"), kind)
        check(openmetrics.endswith("# EOF\n"), "OpenMetrics does not end in # EOF")
        check(engine.stop() == 0, "traceweir did not end well")


def promtool(text):
    done = subprocess.run([peers.debian("promtool", "prometheus"), "check", "metrics"], input=text.encode(),
                          capture_output=True, check=False)
    lines = (done.stdout + done.stderr).decode().splitlines()
    check(done.returncode in (0, 3), f"promtool: a parse error: {lines}")  # 3: only its lint complains
    other = [line for line in lines if not any(line == f"{name} {text}" for name, text in EXPECTED_LINT.items())]
    check(not other, f"promtool's lint complains: {other}")


if __name__ == "__main__":
    main.run([parsed, scraped])
