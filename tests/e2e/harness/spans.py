"""Spans in one plain form, whatever they were read from, and how two of them differ.

A value is a one-entry dict: {"string": s}, {"bool": b}, {"int": "decimal"}, {"double": d}, {"bytes": hex},
{"array": [value…]}, {"map": [[key, value]…]} or {"empty": true}. Attributes are a list of [key, value].
The clients print their manifests in this form."""

import base64
import json
import math

from harness.process import Failed, check

KINDS = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"]
STATUSES = ["UNSET", "OK", "ERROR"]
# What every client can say of a span. The rest ("flags" and so on) is compared only where both sides have it.
SAID = ["trace_id", "span_id", "parent_span_id", "name", "kind", "start", "end", "trace_state", "status", "attributes",
        "events", "links", "resource", "scope"]


# ---- from OTLP/JSON ----
def _value(v):
    if not v:
        return {"empty": True}
    (kind, x), = v.items()
    if kind == "stringValue":
        return {"string": x}
    if kind == "boolValue":
        return {"bool": x}
    if kind == "intValue":
        return {"int": str(x)}
    if kind == "doubleValue":
        return {"double": float(x)}
    if kind == "bytesValue":
        return {"bytes": base64.b64decode(x).hex()}
    if kind == "arrayValue":
        return {"array": [_value(i) for i in x.get("values", [])]}
    if kind == "kvlistValue":
        return {"map": _attributes(x.get("values", []))}
    raise Failed(f"an attribute value of the unknown kind {kind}")


def _attributes(list_):
    return [[kv["key"], _value(kv.get("value", {}))] for kv in list_]


def _event(e):
    return {"name": e.get("name", ""), "time": str(e.get("timeUnixNano", 0)),
            "attributes": _attributes(e.get("attributes", [])), "dropped": e.get("droppedAttributesCount", 0)}


def _link(link):
    return {"trace_id": link.get("traceId", "").lower(), "span_id": link.get("spanId", "").lower(),
            "trace_state": link.get("traceState", ""), "attributes": _attributes(link.get("attributes", [])),
            "flags": link.get("flags", 0), "dropped": link.get("droppedAttributesCount", 0)}


def number(text):
    return -0.0 if text == "-0" else int(text)  # an integer cannot be −0, a double can


def _span(s, resource, resource_schema, scope, scope_schema):
    status = s.get("status", {})
    return {
        "trace_id": s["traceId"].lower(), "span_id": s["spanId"].lower(),
        "parent_span_id": s.get("parentSpanId", "").lower(), "name": s.get("name", ""), "kind": KINDS[s.get("kind", 0)],
        "start": str(s.get("startTimeUnixNano", 0)), "end": str(s.get("endTimeUnixNano", 0)),
        "trace_state": s.get("traceState", ""),
        "status": {"code": STATUSES[status.get("code", 0)], "message": status.get("message", "")},
        "attributes": _attributes(s.get("attributes", [])),
        "events": [_event(e) for e in s.get("events", [])], "links": [_link(x) for x in s.get("links", [])],
        "resource": _attributes(resource.get("attributes", [])),
        "scope": {"name": scope.get("name", ""), "version": scope.get("version", "")},
        "flags": s.get("flags", 0),
        "dropped": [s.get("droppedAttributesCount", 0), s.get("droppedEventsCount", 0), s.get("droppedLinksCount", 0),
                    resource.get("droppedAttributesCount", 0), scope.get("droppedAttributesCount", 0)],
        "scope_attributes": _attributes(scope.get("attributes", [])),
        "schemas": [resource_schema, scope_schema],
    }


def read_otlp(request, found, where):
    """Adds every span of an OTLP/JSON request to found, by (trace id, span id). A span twice is an error."""
    for rs in request.get("resourceSpans", []):
        for ss in rs.get("scopeSpans", []):
            for s in ss.get("spans", []):
                add(found, _span(s, rs.get("resource", {}), rs.get("schemaUrl", ""), ss.get("scope", {}),
                                 ss.get("schemaUrl", "")), where)


def read_otlp_lines(path):
    """The same of a file of requests, one a line."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f:
            read_otlp(json.loads(line, parse_int=number), found, path)
    return found


def add(found, span, where):
    key = (span["trace_id"], span["span_id"])
    check(key not in found, f"{where}: span {key} is there twice")
    found[key] = span


# ---- comparing ----
def same_value(a, b):
    if a.keys() != b.keys():
        return False
    (kind, x), = a.items()
    y = b[kind]
    if kind == "double":
        x, y = float(x), float(y)
        return (math.isnan(x) and math.isnan(y)) or (x == y and math.copysign(1, x) == math.copysign(1, y))
    if kind == "array":
        return len(x) == len(y) and all(same_value(i, j) for i, j in zip(x, y))
    if kind == "map":
        return same_attributes(x, y)
    return x == y


def same_attributes(a, b):
    return len(a) == len(b) and all(k == l and same_value(v, w) for (k, v), (l, w) in zip(a, b))


def _diff_attributes(where, want, got, problems):
    """In any order: an SDK may keep its attributes in a hash table, and send them in another order than it says."""
    w, g = dict(map(tuple_, want)), dict(map(tuple_, got))
    if len(w) != len(want) or len(g) != len(got):
        problems.append(f"{where}: a key is there twice: {[k for k, _ in want]} and {[k for k, _ in got]}")
    for key in sorted(w.keys() | g.keys()):
        if key not in g:
            problems.append(f"{where}: {key!r} = {w[key]} is missing")
        elif key not in w:
            problems.append(f"{where}: {key!r} = {g[key]} was never sent")
        elif not same_value(w[key], g[key]):
            problems.append(f"{where}: {key!r} is {g[key]}, sent was {w[key]}")


def tuple_(pair):
    return pair[0], pair[1]


def _diff_list(where, want, got, problems):
    if len(want) != len(got):
        problems.append(f"{where}: {len(got)} of them, sent were {len(want)}")
        return
    for i, (w, g) in enumerate(zip(want, got)):
        for field in w:
            if field == "attributes":
                _diff_attributes(f"{where} {i}", w[field], g[field], problems)
            elif w[field] != g[field]:
                problems.append(f"{where} {i}: {field} is {g[field]!r}, sent was {w[field]!r}")


def diff(want, got, fields):
    """What differs, as lines; empty when the two are the same in these fields."""
    problems = []
    for field in fields:
        if field in ("attributes", "resource", "scope_attributes"):
            _diff_attributes(field, want[field], got[field], problems)
        elif field in ("events", "links"):
            _diff_list(field, want[field], got[field], problems)
        elif want[field] != got[field]:
            problems.append(f"{field} is {got[field]!r}, sent was {want[field]!r}")
    return problems


def check_same(what, want, got, fields=None, exact_order=False):
    """want and got: spans by (trace id, span id)."""
    problems = [f"span {k} is missing" for k in want.keys() - got.keys()]
    problems += [f"span {k} was never sent" for k in got.keys() - want.keys()]
    for key in want.keys() & got.keys():
        lines = diff(want[key], got[key], fields or want[key].keys())
        if not lines and exact_order:
            lines = _orders(want[key], got[key])
        problems += [f"span {key} {want[key]['name']!r}: {line}" for line in lines]
    if problems:
        shown = "\n  ".join(p[:400] for p in problems[:20])
        raise Failed(f"{what}: {len(problems)} differences\n  {shown}")


def _orders(want, got):
    return [f"{f}: in another order" for f in ("attributes", "resource") if not same_attributes(want[f], got[f])]


# ---- what traceweir adds to a kept span ----
def take_off_decision(span, rule, reasons):
    """The span as it came: without the two decision attributes and `ot=th:0`. Fails where these are not right."""
    where = f"span {span['trace_id']} {span['span_id']}"
    ours = {k: v for k, v in span["attributes"] if k.startswith("traceweir.")}
    check(ours.get("traceweir.rule") == {"string": rule}, f"{where}: traceweir.rule is {ours.get('traceweir.rule')}")
    reason = ours.get("traceweir.reason", {}).get("string")
    check(reason in reasons, f"{where}: traceweir.reason is {reason}")
    check(len(ours) == 2, f"{where}: unexpected attributes {sorted(ours)}")
    return dict(span, attributes=[[k, v] for k, v in span["attributes"] if k not in ours],
                trace_state=_without_threshold(span["trace_state"], where))


def _without_threshold(state, where):
    members = [m.strip() for m in state.split(",")]
    ot = [m for m in members if m.startswith("ot=")]
    check(len(ot) == 1 and members[0] == ot[0], f"{where}: no ot member at the front of tracestate {state!r}")
    keys = ot[0][3:].split(";")
    check("th:0" in keys, f"{where}: no th:0 in tracestate {state!r}")
    keys.remove("th:0")
    return ",".join(([f"ot={';'.join(keys)}"] if keys else []) + members[1:])
