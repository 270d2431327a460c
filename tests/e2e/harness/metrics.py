"""The classic Prometheus text format, read without any library."""

import re

from harness.process import check

LINE = re.compile(r'^([A-Za-z_:][A-Za-z0-9_:]*)(?:\{(.*)\})? (\S+)$')
LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\\n]|\\.)*)"(?:,|$)')
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


def unescape(text):
    return re.sub(r"\\.", lambda m: ESCAPES[m.group(0)], text)


class Scrape:
    def __init__(self, text):
        self.samples = {}
        for line in text.splitlines():
            if line and not line.startswith("#"):
                self._add(line)

    def _add(self, line):
        m = LINE.match(line)
        check(m is not None, f"not a sample line: {line}")
        name, labels, value = m.groups()
        rest = LABEL.sub("", labels or "")
        check(rest == "", f"not labels: {labels}")
        key = (name, frozenset((k, unescape(v)) for k, v in LABEL.findall(labels or "")))
        check(key not in self.samples, f"twice in one scrape: {line}")
        self.samples[key] = float(value)

    def value(self, name, **labels):
        return self.samples.get((name, frozenset(labels.items())), 0.0)

    def sum(self, name):
        return sum(v for (n, _), v in self.samples.items() if n == name)

    def by_labels(self, name):
        return {labels: v for (n, labels), v in self.samples.items() if n == name}

    def check_books(self):
        """What the metrics' own help texts promise, in every scrape."""
        s = self.sum
        received, accepted = s("traceweir_spans_received_total"), s("traceweir_spans_accepted_total")
        self._equal("received = accepted + rejected + refused", received,
                    accepted + s("traceweir_spans_rejected_total") + s("traceweir_spans_refused_total"))
        self._equal("accepted = kept + let go + in flight", accepted,
                    s("traceweir_spans_kept_total") + s("traceweir_spans_let_go_total") +
                    s("traceweir_spans_in_flight"))
        for (name, labels), value in self.samples.items():
            check(value >= 0, f"{name}{dict(labels)} is negative: {value}")
            if name == "traceweir_destination_spans_total":
                self._destination(dict(labels)["destination"], value)

    def _destination(self, destination, spans):
        lost = sum(v for labels, v in self.by_labels("traceweir_lost_spans_total").items()
                   if ("destination", destination) in labels)
        self._equal(f"{destination}: forwarded + lost + queued", spans,
                    self.value("traceweir_forwarded_spans_total", destination=destination) + lost +
                    self.value("traceweir_queued_spans", destination=destination))

    @staticmethod
    def _equal(what, left, right):
        check(left == right, f"the books do not balance: {what}: {left} and {right}")
