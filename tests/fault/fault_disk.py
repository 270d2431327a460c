#!/usr/bin/env python3
"""Disks that refuse, under the file destination of the real binary: nothing that was kept is lost, no line is torn."""
import ctypes
import json
import os
import pathlib
import resource
import signal
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import otlp
from cases import case, run
from engine import Engine, KEEP_ALL, wait_for

SETS = ["forward.0.name=kept", "forward.0.backoff_first=20ms", "forward.0.backoff_most=100ms", "forward.0.batch_age=10ms"]


def ids(body):
    return {s for _, s in otlp.spans_of(body)}


def in_file(path):
    """The span ids of a file of whole lines."""
    with open(path, "rb") as f:
        data = f.read()
    assert data == b"" or data.endswith(b"\n"), "a torn line"
    return [bytes.fromhex(s["spanId"]) for line in data.splitlines() for rs in json.loads(line)["resourceSpans"]
            for ss in rs["scopeSpans"] for s in ss["spans"]]


def send(e, count=20):
    want = set()
    for _ in range(count):
        body = otlp.traces(5, 3)
        want |= ids(body)
        e.send(body)
    return want


@case("DISK-01 ENOSPC at each write")
def disk_01():
    # /dev/full says ENOSPC to every write; then the name leads to a disk with room.
    link = os.path.join(tempfile.mkdtemp(prefix="traceweir-test-"), "full.jsonl")
    os.symlink("/dev/full", link)
    with Engine(KEEP_ALL, sets=[*SETS, f"forward.0.file={link}"]) as e:
        want = send(e)
        wait_for(lambda: e.value("traceweir_send_failures_total") >= 3, "refused writes")
        m = e.metrics()
        assert m.sum("traceweir_lost_spans_total") == 0 and m.sum("traceweir_forwarded_spans_total") == 0
        e.oracle()
        wait_for(lambda: "No space left" in e.log(), "a word about it")
        os.unlink(link)
        e.kill(signal.SIGHUP)
        e.settled()
        got = in_file(link)
        assert want <= set(got) and len(got) == len(set(got))
        e.oracle()
        e.settled()


@case("DISK-04 short write")
def disk_04():
    # A limit on the file's size: the write that reaches it is short, and the next one fails.
    limit = 40_000

    def limits():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    with Engine(KEEP_ALL, sets=[*SETS, "forward.0.file=kept.jsonl", "forward.0.batch_bytes=4KiB"], limits=limits) as e:
        want = send(e, 60)
        wait_for(lambda: e.value("traceweir_send_failures_total") >= 1, "a refused write")
        first = os.path.join(e.dir, "first.jsonl")
        got = wait_for(lambda: whole(e.out), "whole lines")
        assert 0 < len(got) < len(want)
        assert e.value("traceweir_lost_spans_total") == 0
        for n in range(40):  # as a log rotation would
            if e.value("traceweir_queued_spans") == 0 and e.value("traceweir_spans_in_flight") == 0:
                break
            rotated = f"{first}.{n}"
            os.rename(e.out, rotated)
            e.kill(signal.SIGHUP)
            wait_for(lambda: os.path.exists(e.out), "the new file")
            failures = e.value("traceweir_send_failures_total")
            wait_for(lambda: e.value("traceweir_queued_spans") == 0 or e.value("traceweir_send_failures_total") > failures,
                     "the next limit, or the end")
        e.settled()
        got = []
        for name in os.listdir(e.dir):
            if name.startswith(("kept", "first")):
                got += in_file(os.path.join(e.dir, name))
        assert want <= set(got), f"{len(want - set(got))} of {len(want)} lost"
        assert len(got) == len(set(got)), "a span is there twice"
        e.check_log()


def whole(path):
    """What is in the file once its last line is whole; None before."""
    try:
        return in_file(path)
    except (AssertionError, ValueError):
        return None


@case("DISK-06 permission lost")
def disk_06():
    def limits():
        # Root, too, shall be told no: without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
        libc = ctypes.CDLL(None)
        for capability in (1, 2):
            libc.prctl(24, capability, 0, 0, 0)

    with Engine(KEEP_ALL, sets=[*SETS, "forward.0.file=kept.jsonl"], limits=limits) as e:
        inside = os.path.join(e.dir, "kept.jsonl")
        first = send(e)
        e.settled()
        os.rename(inside, inside + ".1")
        mode = os.stat(e.dir).st_mode
        os.chmod(e.dir, 0o555)
        try:
            e.kill(signal.SIGHUP)
            wait_for(lambda: "Permission denied" in e.log(), "a word about it")
            second = send(e)
            wait_for(lambda: e.value("traceweir_spans_in_flight") == 0, "all decided")
            assert e.value("traceweir_lost_spans_total") == 0
            e.oracle()
        finally:
            os.chmod(e.dir, mode)
        e.kill(signal.SIGHUP)
        e.settled()
        got = in_file(inside + ".1") + (in_file(inside) if os.path.exists(inside) else [])
        assert first | second <= set(got) and len(got) == len(set(got))
        e.oracle()
        e.settled()


if __name__ == "__main__":
    run()
