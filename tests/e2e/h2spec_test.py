#!/usr/bin/env python3
"""h2spec, the conformance test for HTTP/2 and HPACK, on both of traceweir's ports.

Every case must pass but those that README.md names, with the reason; traceweir runs on afterwards, and answers."""

import os
import re
import subprocess
import xml.etree.ElementTree

from harness import main, peers
from harness.engine import Engine
from harness.process import check

CASES = 145  # of h2spec 2.2.1: with less, it did not run whole


def allowed():
    """The cases that README.md names: rows of its table "h2spec", which begin with `section/number`."""
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "README.md"), encoding="utf-8") as f:
        return set(re.findall(r"^\| `([a-z0-9.]+/[0-9.]*/[0-9]+)` \|", f.read(), re.MULTILINE))


def cases(report):
    """(id, failure or None) of every case; an id is package/section/number, as http2/6.9.1/3."""
    for suite in xml.etree.ElementTree.parse(report).getroot().iter("testsuite"):
        for number, case in enumerate(suite.iter("testcase"), 1):
            text = None
            for child in case:
                if child.tag in ("failure", "error", "skipped"):
                    text = f"{case.get('classname')}: {' '.join(''.join(child.itertext()).split())}"
            yield f"{case.get('package')}/{number}", text


def conformance(port_name):
    def test(arguments, directory):
        with Engine(arguments.traceweir, directory) as engine:
            engine.await_ready()
            report = os.path.join(directory, "report.xml")
            done = subprocess.run([*peers.get("h2spec"), "-h", "127.0.0.1", "-p", str(getattr(engine, port_name)),
                                   "-o", "2", "-j", report], stdin=subprocess.DEVNULL, capture_output=True, timeout=300,
                                  check=False)
            check(os.path.exists(report), f"h2spec ended with {done.returncode}: {done.stderr.decode()[-500:]}")
            results = dict(cases(report))
            check(len(results) == CASES, f"h2spec ran {len(results)} cases, not {CASES}")
            failed = {case: text for case, text in results.items() if text is not None}
            unexpected = {case: text for case, text in failed.items() if case not in allowed()}
            check(not unexpected, f"{len(unexpected)} cases fail: {unexpected}")
            engine.check_alive()
            check(engine.get("/readyz")[0] == 200, "not ready after h2spec")
            check(engine.stop() == 0, "does not end well after h2spec")
            print(f"h2spec on {port_name}: {CASES - len(failed)} of {CASES} passed; by README.md: {sorted(failed)}")
    test.__name__ = f"h2spec {port_name}"
    return test


if __name__ == "__main__":
    main.run([conformance("grpc_port"), conformance("http_port")])
