#!/usr/bin/env python3
"""What an SDK sends arrives whole in a real Jaeger: asked by API v3 attribute for attribute, and as its UI asks."""

from harness import main, peers, spans
from harness.engine import REASONS, RULE, Engine
from harness.jaeger import Jaeger
from harness.process import check
from sdk_test import send


def by(protocol, port_name, destination):
    def test(arguments, directory):
        with Jaeger(directory) as jaeger:
            jaeger.await_ready()
            forward = f"forward=[{{name: jaeger, {destination.format(jaeger.ports[port_name])}}}]"
            with Engine(arguments.traceweir, directory, sets=[forward]) as engine:
                engine.await_ready()
                sent = send(peers.get("python"), protocol, "gzip",
                            [engine.grpc_port if protocol == "grpc" else engine.http_port])
                engine.await_forwarded(len(sent), ["jaeger"])
                check(engine.stop() == 0, "traceweir did not end well")
            compare(sent, jaeger)
            as_the_ui(sent, jaeger)
    test.__name__ = f"jaeger {port_name}"
    return test


def compare(sent, jaeger):
    got = jaeger.spans({trace for trace, _ in sent})
    for span in got.values():  # Jaeger's own remarks, where a parent is not in the trace
        span["attributes"] = [[k, v] for k, v in span["attributes"] if k != "@jaeger@warnings"]
    bare = {k: spans.take_off_decision(s, RULE, REASONS) for k, s in got.items()}
    spans.check_same("what the client says and what Jaeger holds", sent, bare, spans.SAID)


def as_the_ui(sent, jaeger):
    for service in ("shop-front", "shop-stock"):
        check(service in jaeger.services(), f"Jaeger knows no {service}: {jaeger.services()}")
        names = {s["name"] for s in sent.values() if ["service.name", {"string": service}] in s["resource"]}
        check(jaeger.operations(service) == names, f"{service}: {jaeger.operations(service)} are not {names}")
    whole = next(s for s in sent.values() if s["name"] == "a trace of several requests")
    shown = jaeger.trace(whole["trace_id"])["spans"]
    check(len(shown) == 701, f"the long trace has {len(shown)} spans")
    for span in shown:
        tags = {t["key"]: t["value"] for t in span["tags"]}
        check(tags.get("traceweir.rule") == RULE and tags.get("traceweir.reason") in REASONS, f"tags: {tags}")


if __name__ == "__main__":
    main.run([by("grpc", "grpc", "otlp_grpc: '127.0.0.1:{}'"),
              by("http/protobuf", "http", "otlp_http: 'http://127.0.0.1:{}'")])
