#!/usr/bin/env python3
"""sdk_test.py --sdk NAME: what an OpenTelemetry SDK sends arrives whole, attribute for attribute.

The SDK's client program sends the same spans twice, over each protocol and compression that it has: to traceweir, and
straight to a Collector. traceweir forwards them to that Collector over OTLP/gRPC and OTLP/HTTP, and writes a file. Then
all are the same: what the client says it sent, what arrived directly, and what arrived by way of traceweir."""

import argparse
import itertools
import json
import os
import subprocess

from harness import main, peers, spans
from harness.collector import Collector
from harness.engine import REASONS, RULE, Engine
from harness.process import check

PROTOCOLS = {
    "python": ["grpc", "http/protobuf"],
    "node": ["grpc", "http/protobuf", "http/json"],
    "go": ["grpc", "http/protobuf"],
    "java": ["grpc", "http/protobuf"],
    "rust": ["grpc", "http/protobuf", "http/json"],
}
# What every client must have sent, or the comparison would compare little. Beside it, what an SDK has no way to send.
EVERYTHING = {"string", "bool", "int", "double", "array", "bytes", "int.min", "int.max", "double.nan", "double.inf",
              "event", "event.attributes", "link", "link.attributes", "status.OK", "status.ERROR", "status.UNSET",
              "status.message", "kind.INTERNAL", "kind.SERVER", "kind.CLIENT", "kind.PRODUCER", "kind.CONSUMER",
              "unicode.key", "unicode.value", "unicode.name", "long", "trace_state", "remote_parent", "resource.array",
              "scope.version", "root"}
CANNOT = {
    "python": set(),
    "node": {"int.min", "int.max",        # a JavaScript number holds integers up to 2^53
             "bytes"},                    # the SDK drops a Uint8Array
    "node http/json": {"double.nan", "double.inf"},  # it writes null for them, which the Collector refuses
    "go": {"bytes"},                      # attribute.Value has no such type
    "java": {"bytes"},                    # Attributes have no such type
    "rust": {"bytes"},                    # Value has no such type
    "rust http/json": {"double.nan", "double.inf"},  # it writes "NaN", which the Collector refuses
}


def features(sent):
    found = set()
    for s in sent.values():
        for key, value in s["attributes"]:
            (kind, x), = value.items()
            found.add(kind)
            found |= {"int.min"} if x == str(-2**63) else {"int.max"} if x == str(2**63 - 1) else set()
            found |= {"unicode.key"} if not key.isascii() else set()
            if kind == "string":
                found |= {"long"} if len(x) > 30000 else set()
                found |= {"unicode.value"} if not x.isascii() else set()
            if kind == "double" and str(x).lower() in ("nan", "inf", "infinity"):
                found.add(f"double.{str(x).lower()[:3]}")
        found.add(f"status.{s['status']['code']}")
        found.add(f"kind.{s['kind']}")
        found |= {"event"} if s["events"] else set()
        found |= {"event.attributes"} if any(e["attributes"] for e in s["events"]) else set()
        found |= {"link"} if s["links"] else set()
        found |= {"link.attributes"} if any(x["attributes"] for x in s["links"]) else set()
        found |= {"trace_state"} if s["trace_state"] else set()
        found |= {"status.message"} if s["status"]["message"] else set()
        found |= {"unicode.name"} if not s["name"].isascii() else set()
        found |= {"resource.array"} if any("array" in v for _, v in s["resource"]) else set()
        found |= {"scope.version"} if s["scope"]["version"] else set()
        found |= {"remote_parent"} if s["parent_span_id"].startswith("eee19b7ec3c1b1") else set()
        found |= {"root"} if not s["parent_span_id"] else set()
    return found


def send(client, protocol, compression, ports):
    """Runs the client once; returns what it says it sent."""
    argv = [*client, protocol, compression, *(f"127.0.0.1:{p}" for p in ports)]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    check(done.returncode == 0, f"the client ended with {done.returncode}: {done.stderr.decode()[-2000:]}")
    sent = {}
    for span in json.loads(done.stdout, parse_int=spans.number)["spans"]:
        spans.add(sent, span, "the client's own list")
    return sent


def check_calls(metrics, sent):
    """The RED counters are exactly what was sent: no call too many, none missing."""
    want = {}
    for s in sent.values():
        service = dict(map(tuple, ((k, v.get("string")) for k, v in s["resource"])))["service.name"]
        labels = frozenset({"service_name": service, "span_name": s["name"], "span_kind": f"SPAN_KIND_{s['kind']}",
                            "status_code": f"STATUS_CODE_{s['status']['code']}"}.items())
        want[labels] = want.get(labels, 0) + 1
    got = metrics.by_labels("traces_span_metrics_calls_total")
    check(got == want, f"traces_span_metrics_calls_total differs: {sorted(map(str, got.items() ^ want.items()))[:6]}")


def combination(sdk, protocol, compression):
    def test(arguments, directory):
        client = peers.get(sdk)
        with Collector(directory, ["direct", "by-grpc", "by-http"]) as collector:
            collector.await_ready()
            kept = os.path.join(directory, "kept.jsonl")
            destinations = (f"forward=[{{name: grpc, otlp_grpc: '127.0.0.1:{collector.ports['by-grpc'][0]}', "
                            f"when_full: refuse}}, {{name: http, when_full: refuse, compression: zstd, "
                            f"otlp_http: 'http://127.0.0.1:{collector.ports['by-http'][1]}'}}, "
                            f"{{name: file, file: '{kept}', when_full: refuse}}]")
            with Engine(arguments.traceweir, directory, sets=[destinations]) as engine:
                engine.await_ready()
                which = 0 if protocol == "grpc" else 1
                sent = send(client, protocol, compression,
                            [(engine.grpc_port, engine.http_port)[which], collector.ports["direct"][which]])
                check_calls(engine.await_forwarded(len(sent), ["grpc", "http", "file"]), sent)
                code = engine.stop()
                check(code == 0, f"traceweir ended with {code}")
            collector.finish()
        missing = EVERYTHING - CANNOT[sdk] - CANNOT.get(f"{sdk} {protocol}", set()) - features(sent)
        check(not missing, f"the client did not send: {sorted(missing)}")
        compare(sent, collector, kept)
    test.__name__ = f"{sdk} {protocol} {compression}"
    return test


def compare(sent, collector, kept):
    direct = collector.spans("direct")
    spans.check_same("what the client says and what it sent straight to the Collector", sent, direct, spans.SAID)
    for name, got in (("grpc", collector.spans("by-grpc")), ("http", collector.spans("by-http")),
                      ("file", spans.read_otlp_lines(kept))):
        bare = {k: spans.take_off_decision(s, RULE, REASONS) for k, s in got.items()}
        spans.check_same(f"{name}: what the client says and what arrived", sent, bare, spans.SAID)
        spans.check_same(f"{name}: what arrived directly and what arrived by traceweir", direct, bare, exact_order=True)


def combinations(arguments):
    check(arguments.sdk in PROTOCOLS, f"no client for {arguments.sdk}")
    return [combination(arguments.sdk, p, c)
            for p, c in itertools.product(PROTOCOLS[arguments.sdk], ["none", "gzip"])]


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--sdk", required=True, choices=PROTOCOLS)
    main.run(combinations, options)
