#!/usr/bin/env python3
"""The comparisons themselves: whatever is changed in a span or in a scrape, they see it."""

import copy

from harness import main, metrics, spans
from harness.engine import REASONS
from harness.process import Failed, check

ATTRIBUTES = [["s", {"string": "ü"}], ["b", {"bool": True}], ["i", {"int": "9223372036854775807"}],
              ["d", {"double": 0.5}], ["z", {"double": -0.0}], ["n", {"double": "NaN"}], ["y", {"bytes": "00ff"}],
              ["a", {"array": [{"string": "x"}, {"int": "1"}]}], ["m", {"map": [["k", {"bool": False}]]}]]
SPAN = {
    "trace_id": "5b8efff798038103d269b633813fc60c", "span_id": "eee19b7ec3c1b174", "parent_span_id": "",
    "name": "GET /", "kind": "SERVER", "start": "1", "end": "2", "trace_state": "vendor=1",
    "status": {"code": "ERROR", "message": "m"},
    "attributes": ATTRIBUTES, "events": [{"name": "e", "time": "1", "attributes": ATTRIBUTES}],
    "links": [{"trace_id": "00", "span_id": "01", "trace_state": "", "attributes": ATTRIBUTES}],
    "resource": ATTRIBUTES, "scope": {"name": "s", "version": "1"},
}


def by_id(*list_):
    found = {}
    for span in list_:
        spans.add(found, span, "here")
    return found


def refuses(what, call):
    try:
        call()
    except Failed:
        return
    raise Failed(f"not seen: {what}")


def changes(value, path=()):
    """Every copy of value in which one leaf is another, one list entry is missing, or one is there twice."""
    if isinstance(value, dict):
        for key in value:
            yield from ((path + (key,) + p, dict(value, **{key: v})) for p, v in changes(value[key]))
    elif isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):  # a key and its value
        yield path + ("key",), [value[0] + "1", value[1]]
        yield from ((path + p, [value[0], v]) for p, v in changes(value[1]))
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield path + (i, "missing"), value[:i] + value[i + 1:]
            yield path + (i, "twice"), value[:i + 1] + value[i:]
            yield from ((path + (i,) + p, value[:i] + [v] + value[i + 1:]) for p, v in changes(one))
    elif isinstance(value, bool):
        yield path, not value
    elif isinstance(value, float):
        yield path, -value
    else:
        yield path, "0" if value == "NaN" else f"{value}1"


def every_change_is_seen(*_):
    seen = 0
    for field in SPAN:
        for path, value in changes(SPAN[field]):
            changed = by_id(dict(SPAN, **{field: value}))
            refuses(f"{field} {path}: {value}", lambda c=changed: spans.check_same("", by_id(SPAN), c, spans.SAID))
            seen += 1
    check(seen > 150, f"only {seen} changes were tried")
    spans.check_same("the same", by_id(SPAN), by_id(copy.deepcopy(SPAN)), spans.SAID, exact_order=True)


def spans_too_many_and_too_few(*_):
    other = dict(SPAN, span_id="0000000000000001")
    refuses("a missing span", lambda: spans.check_same("", by_id(SPAN, other), by_id(SPAN)))
    refuses("a span that was never sent", lambda: spans.check_same("", by_id(SPAN), by_id(SPAN, other)))
    refuses("a span that is there twice", lambda: by_id(SPAN, SPAN))
    turned = dict(SPAN, attributes=ATTRIBUTES[::-1])
    refuses("another order", lambda: spans.check_same("", by_id(SPAN), by_id(turned), exact_order=True))


def decisions(*_):
    rule, reason = ["traceweir.rule", {"string": "all"}], ["traceweir.reason", {"string": "root"}]
    good = dict(SPAN, attributes=ATTRIBUTES + [rule, reason], trace_state="ot=th:0,vendor=1")
    check(spans.take_off_decision(good, "all", REASONS) == SPAN, "what traceweir adds is not taken off")
    kept = dict(good, trace_state="ot=th:0;rv:00000000000001,vendor=1")
    check(spans.take_off_decision(kept, "all", REASONS)["trace_state"] == "ot=rv:00000000000001,vendor=1", "rv is lost")
    for what, bad in (("no rule", dict(good, attributes=ATTRIBUTES + [reason])),
                      ("no reason", dict(good, attributes=ATTRIBUTES + [rule])),
                      ("a reason that is none", dict(good, attributes=[rule, ["traceweir.reason", {"string": "x"}]])),
                      ("one more", dict(good, attributes=[rule, reason, ["traceweir.x", {"bool": True}]])),
                      ("no threshold", dict(good, trace_state="vendor=1")),
                      ("another threshold", dict(good, trace_state="ot=th:8,vendor=1")),
                      ("ot behind another member", dict(good, trace_state="vendor=1,ot=th:0"))):
        refuses(what, lambda b=bad: spans.take_off_decision(b, "all", REASONS))
    refuses("another rule", lambda: spans.take_off_decision(good, "other", REASONS))


BOOKS = """\
traceweir_spans_received_total 10
traceweir_spans_accepted_total 8
traceweir_spans_rejected_total{reason="invalid_trace_id"} 1
traceweir_spans_refused_total{reason="draining"} 1
traceweir_spans_kept_total 5
traceweir_spans_let_go_total{rule="a \\"b\\""} 2
traceweir_spans_in_flight 1
traceweir_destination_spans_total{destination="f"} 5
traceweir_forwarded_spans_total{destination="f"} 3
traceweir_lost_spans_total{destination="f",reason="rejected"} 1
traceweir_queued_spans{destination="f"} 1
"""


def unbalanced_books(*_):
    metrics.Scrape(BOOKS).check_books()
    lines = BOOKS.splitlines()
    for i, line in enumerate(lines):
        text, value = line.rsplit(" ", 1)
        changed = lines[:i] + [f"{text} {int(value) + 1}"] + lines[i + 1:]
        refuses(f"one more in {line}", lambda c=changed: metrics.Scrape("\n".join(c)).check_books())
    for bad in ("name", "name{a=b} 1", 'name{a="b"c="d"} 1', "n 1\nn 1"):
        refuses(f"the scrape {bad!r}", lambda b=bad: metrics.Scrape(b))


if __name__ == "__main__":
    main.run([every_change_is_seen, spans_too_many_and_too_few, decisions, unbalanced_books])
