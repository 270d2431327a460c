#!/usr/bin/env python3
"""Two workers under load: nothing is lost, every trace that must be kept arrives whole, and the books balance in every
scrape and are exact at rest.

Five generators send at once (OTLP/gRPC; the same compressed; OTLP/HTTP; OTLP/JSON, compressed; OTLP/gRPC with spans that come
after their trace was decided), the rules are reloaded all the while, and two scrapers read /metrics in both formats as fast as it answers. When the generators are done,
the engine must come to rest by itself; then every counter is compared with what the generators and the sink
counted. Last, a burst is sent and the engine is told to leave at once: what it acknowledged must be in the sink.
Exit 0, or 1 with what did not hold."""
import argparse
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

REST_SHARE = 0.01
RULES = """\
wait: { root: 2s, idle: 15s, most: 60s }
rules:
  - { name: errors, when: '{ status = error }', keep: all }
  - { name: slow, when: '{ trace:duration > 2s }', keep: all }
  - { name: rest, keep: 1% }
"""
CONFIG = """\
rules: RULES_FILE
workers: 2
memory_max: 2GiB
receive: { otlp_grpc: "127.0.0.1:GRPC", otlp_http: "127.0.0.1:HTTP" }
forward:
  - { name: sink, otlp_grpc: "127.0.0.1:SINK" }
admin: { listen: "127.0.0.1:ADMIN" }
"""
SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Fault(Exception):
    pass


def check(holds, text):
    if not holds:
        raise Fault(text)


def equal(what, got, want):
    check(got == want, f"{what}: {got:,.0f}, but {want:,.0f} were due")


class Page:
    """One scrape."""

    def __init__(self, text):
        self.samples = {}
        for line in text.splitlines():
            match = SAMPLE.match(line)
            if match:
                labels = tuple(sorted(LABEL.findall(match[2] or "")))
                self.samples.setdefault(match[1], {})[labels] = float(match[3])

    def sum(self, name, **labels):
        """Of all samples of that name with these labels; the name must be there."""
        if name not in self.samples:
            raise Fault(f"{name} is not on the page")
        want = set(labels.items())
        return sum(v for k, v in self.samples[name].items() if want <= set(k))

    def check_books(self):
        """What holds in every scrape, whatever goes on."""
        for name, values in self.samples.items():
            for labels, value in values.items():
                check(0 <= value < 1 << 62, f"{name}{dict(labels)} = {value}")
        equal("received = accepted + rejected + refused", self.sum("traceweir_spans_received_total"),
              self.sum("traceweir_spans_accepted_total") + self.sum("traceweir_spans_rejected_total")
              + self.sum("traceweir_spans_refused_total"))
        equal("accepted = kept + let go + in flight", self.sum("traceweir_spans_accepted_total"),
              self.sum("traceweir_spans_kept_total") + self.sum("traceweir_spans_let_go_total")
              + self.sum("traceweir_spans_in_flight"))
        equal("traces begun = decided + open", self.sum("traceweir_traces_begun_total"),
              self.sum("traceweir_traces_decided_total") + self.sum("traceweir_traces_open"))
        for labels in self.samples["traceweir_destination_spans_total"]:
            labels = dict(labels)
            equal("destination = forwarded + lost + queued",
                  self.sum("traceweir_destination_spans_total", **labels),
                  self.sum("traceweir_forwarded_spans_total", **labels)
                  + self.sum("traceweir_lost_spans_total", **labels)
                  + self.sum("traceweir_queued_spans", **labels))

    def check_counters(self, before):
        """Counters never go back."""
        for name, values in before.samples.items():
            if name.endswith(("_total", "_count", "_bucket")):
                for labels, value in values.items():
                    now = self.samples.get(name, {}).get(labels, -1)
                    check(now >= value, f"{name}{dict(labels)} went from {value} to {now}")

    def at_rest(self):
        gauges = ["spans_in_flight", "ring_spans", "queued_spans", "queued_bytes", "requests_open",
                  "traces_open", "traces_kept_held", "buffer_pinned_bytes",
                  "request_bytes_in_flight"]
        return all(self.sum("traceweir_" + name) == 0 for name in gauges)


def fetch(port, path, accept="text/plain"):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"Accept": accept})
    return urllib.request.urlopen(request, timeout=60).read().decode()


class Scraper(threading.Thread):
    """Reads /metrics until it is told to stop; the first fault ends it."""

    def __init__(self, port, accept):
        super().__init__()
        self.port, self.accept = port, accept
        self.over = threading.Event()
        self.scrapes, self.fault = 0, None

    def run(self):
        before = Page("")
        while not self.over.is_set():
            try:
                page = Page(fetch(self.port, "/metrics", self.accept))
                page.check_books()
                page.check_counters(before)
            except (Fault, OSError) as e:
                self.fault = f"scrape {self.scrapes}: {e}"
                return
            before = page
            self.scrapes += 1

    def finish(self):
        self.over.set()
        self.join()
        check(self.fault is None, self.fault)
        check(self.scrapes > 0, "not one scrape was made")


def key_values(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


class Torture:
    def __init__(self, args, folder):
        self.args, self.dir = args, folder
        self.processes, self.manifests = [], []
        self.sink_port = self.admin = 0
        self.sent = {"spans_acked": 0, "error_spans_acked": 0, "refusals": 0, "traces": 0}

    def spawn(self, name, command, **more):
        out = open(self.dir / f"{name}.out", "w")
        err = open(self.dir / f"{name}.err", "w")
        process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=err, **more)
        process.name = name
        self.processes.append(process)
        return process

    def await_for(self, what, probe):
        """Until the probe holds; a process that ends meanwhile is the fault."""
        begin = time.monotonic()
        while not probe():
            for p in (self.engine, self.sink):
                check(p.poll() is None, f"{p.name} ended with {p.poll()} while waiting: {what}\n"
                      + (self.dir / f"{p.name}.err").read_text()[-4000:])
            check(time.monotonic() - begin < 240, f"never happened: {what}")
            time.sleep(0.02)

    def start_sink(self):
        names = ["steady", "zstd", "http", "json", "late", "burst"]
        self.manifests = [self.dir / f"{n}.manifest" for n in names]
        expect = [word for m in self.manifests for word in ("--expect", m)]
        self.sink = self.engine = self.spawn("sink", [
            self.args.sink, "--listen", "127.0.0.1:0", "--rest", REST_SHARE, *expect])
        output = self.dir / "sink.out"
        self.await_for("the sink listens", lambda: "port=" in output.read_text())
        self.sink_port = int(key_values(output.read_text())["port"])

    def start_engine(self):
        self.grpc, self.http, self.admin = free_ports(3)
        (self.dir / "rules.yaml").write_text(RULES)
        text = CONFIG.replace("RULES_FILE", str(self.dir / "rules.yaml"))
        for word, port in (("GRPC", self.grpc), ("HTTP", self.http), ("ADMIN", self.admin),
                           ("SINK", self.sink_port)):
            text = text.replace(":" + word, f":{port}")
        (self.dir / "traceweir.yaml").write_text(text)
        self.engine = self.spawn("traceweir", [self.args.traceweir, "run", "--config",
                                               self.dir / "traceweir.yaml"])
        self.await_for("readyz", self.is_ready)

    def is_ready(self):
        try:
            fetch(self.admin, "/readyz")
            return True
        except (urllib.error.URLError, OSError):
            return False

    def start_load(self, name, first, port, seconds, share, *more):
        return self.spawn(name, [
            self.args.load, "--manifest", self.dir / f"{name}.manifest", "--first-trace", first,
            "--duration", f"{seconds}s", "--rate", int(self.args.rate * share), "--request-spans", 400,
            "--stride", 5, "--services", 8, "--operations", 2, "--zipf", 1, *more,
            f"127.0.0.1:{port}"])

    def finish_load(self, process, reload=False):
        while process.poll() is None:
            check(self.engine.poll() is None, f"traceweir ended with {self.engine.poll()}\n"
                  + (self.dir / "traceweir.err").read_text()[-4000:])
            if reload:
                self.reload()
            else:
                time.sleep(0.02)
        said = (self.dir / f"{process.name}.err").read_text()
        check(process.returncode == 0, f"{process.name} ended with {process.returncode}: {said}")
        got = key_values((self.dir / f"{process.name}.out").read_text())
        for key in self.sent:
            self.sent[key] += int(got[key])
        return got

    def reload(self):
        """One reload, seen on the page before this returns."""
        before = Page(fetch(self.admin, "/metrics")).sum("traceweir_reloads_total")
        self.engine.send_signal(signal.SIGHUP)
        self.await_for("a reload", lambda: Page(fetch(self.admin, "/metrics")).sum(
            "traceweir_reloads_total") > before)

    def under_load(self):
        scrapers = [Scraper(self.admin, accept) for accept in
                    ("text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0")]
        for s in scrapers:
            s.start()
        try:
            seconds = self.args.seconds
            loads = [
                self.start_load("steady", 0, self.grpc, seconds, 0.5, "--connections", 4),
                self.start_load("zstd", 3 << 32, self.grpc, seconds, 0.1, "--compression", "zstd"),
                self.start_load("http", 1 << 32, self.http, seconds, 0.2, "--http", "--connections", 3),
                self.start_load("json", 5 << 32, self.http, seconds, 0.1, "--http", "--json",
                                "--compression", "gzip"),
                self.start_load("late", 1 << 33, self.grpc, seconds, 0.1, "--late-share", "0.3",
                                "--late-delay", "5s", "--request-spans", 80),
            ]
            for load in loads:
                self.finish_load(load, reload=True)
            self.await_for("the engine comes to rest", lambda: Page(
                fetch(self.admin, "/metrics")).at_rest())
        finally:
            faults = []
            for s in scrapers:
                try:
                    s.finish()
                except Fault as e:
                    faults.append(str(e))
        check(not faults, "; ".join(faults))
        return sum(s.scrapes for s in scrapers)

    def check_rest(self):
        page = Page(fetch(self.admin, "/metrics"))
        sink = key_values(fetch(self.sink_port, "/totals"))
        sent = self.sent
        page.check_books()
        equal("spans accepted", page.sum("traceweir_spans_accepted_total"), sent["spans_acked"])
        equal("spans rejected", page.sum("traceweir_spans_rejected_total"), 0)
        equal("requests refused", page.sum("traceweir_requests_total", outcome="refused"), sent["refusals"])
        equal("traces begun", page.sum("traceweir_traces_begun_total"), sent["traces"])
        equal("traces decided", page.sum("traceweir_traces_decided_total"), sent["traces"])
        equal("traces by decision", page.sum("traceweir_decisions_total"), sent["traces"])
        equal("calls counted", page.sum("traces_span_metrics_calls_total"), sent["spans_acked"])
        equal("calls counted as errors",
              page.sum("traces_span_metrics_calls_total", status_code="STATUS_CODE_ERROR"),
              sent["error_spans_acked"])
        equal("durations counted", page.sum("traces_span_metrics_duration_milliseconds_count"),
              sent["spans_acked"])
        equal("spans lost", page.sum("traceweir_lost_spans_total"), 0)
        kept = page.sum("traceweir_spans_kept_total")
        equal("spans kept, by rule", page.sum("traceweir_rule_spans_kept_total"), kept)
        equal("spans for the destination", page.sum("traceweir_destination_spans_total"), kept)
        equal("spans forwarded", page.sum("traceweir_forwarded_spans_total"), kept)
        equal("spans in the sink", int(sink["unique"]), kept)
        equal("spans in the sink that say their rule", int(sink["patched"]), kept)
        equal("spans in the sink twice", int(sink["duplicates"]), 0)
        equal("failed reloads", page.sum("traceweir_reloads_total", outcome="failed"), 0)
        for kind in ("spans", "records"): # digests: an open segment keeps the heads that it has
            equal(f"bytes of {kind} at rest", page.sum("traceweir_buffer_bytes", kind=kind), 0)
        equal("early decisions", page.sum("traceweir_early_decisions_total"), 0)
        return page

    def leave(self):
        """A burst, then SIGTERM with its traces undecided."""
        self.finish_load(self.start_load("burst", 1 << 34, self.grpc, 1, 1))
        self.engine.send_signal(signal.SIGTERM)
        code = self.engine.wait(120)
        check(code == 0, f"traceweir ended with {code}\n"
              + (self.dir / "traceweir.err").read_text()[-4000:])
        self.sink.send_signal(signal.SIGTERM)
        code = self.sink.wait(300)
        text = (self.dir / "sink.out").read_text() + (self.dir / "sink.err").read_text()
        check(code == 0, f"the sink ended with {code}: " + " ".join(text.split()))
        got = {k: int(v) for k, v in key_values(text).items()}
        for kind in ("error", "slow", "rest"):
            check(got[f"{kind}_traces"] > 0, f"no {kind} trace was sent")
            equal(f"whole {kind} traces", got[f"{kind}_whole"], got[f"{kind}_traces"])
        equal("spans twice", got["duplicates"], 0)
        return got

    def run(self):
        self.start_sink()
        self.start_engine()
        scrapes = self.under_load()
        page = self.check_rest()
        got = self.leave()
        print(f"{self.sent['spans_acked']:,} spans of {self.sent['traces']:,} traces, "
              f"{page.sum('traceweir_late_spans_total'):,.0f} of them late; {self.sent['refusals']} requests refused and sent again; "
              f"{got['error_whole']:,} error, {got['slow_whole']:,} slow and {got['rest_whole']:,} other traces "
              f"kept, all whole; {scrapes:,} scrapes balanced; "
              f"{page.sum('traceweir_reloads_total'):.0f} reloads")

    def say_what_is_known(self):
        try:
            print("\n".join(line for line in fetch(self.admin, "/metrics").splitlines()
                            if not line.startswith(("#", "traces_"))))
        except OSError as e:
            print(f"-- no metrics: {e}")
        for p in self.processes:
            p.send_signal(signal.SIGTERM)
            try:
                print(f"-- {p.name} ended with {p.wait(60)}")
            except subprocess.TimeoutExpired:
                print(f"-- {p.name} does not end")
            for kind in ("out", "err"):
                print((self.dir / f"{p.name}.{kind}").read_text()[-8000:])

    def clean_up(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("traceweir", "load", "sink"):
        p.add_argument(f"--{name}", required=True, help="binary")
    p.add_argument("--rate", type=int, default=100000, help="spans a second in all")
    p.add_argument("--seconds", type=int, default=60)
    args = p.parse_args()
    with tempfile.TemporaryDirectory(prefix="torture.") as folder:
        torture = Torture(args, pathlib.Path(folder))
        try:
            torture.run()
        except (Fault, OSError, subprocess.TimeoutExpired) as e:
            print(f"FAILED: {type(e).__name__}: {e}")
            torture.say_what_is_known()
            return 1
        finally:
            torture.clean_up()
    return 0


if __name__ == "__main__":
    sys.exit(main())
