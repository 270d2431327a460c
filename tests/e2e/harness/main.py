"""What every test of this folder begins with: its arguments, a directory of its own, and its exit code."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time

from harness.process import Failed


@contextlib.contextmanager
def directory(name):
    """Removed when all went well; kept, and named, when not."""
    path = tempfile.mkdtemp(prefix=f"traceweir-{name}-")
    try:
        yield path
    except BaseException:
        print(f"what was written is in {path}", file=sys.stderr)
        raise
    shutil.rmtree(path)


def run(tests, parser=None):
    """tests: called one after the other with (arguments, directory); each says by Failed what is wrong."""
    parser = parser or argparse.ArgumentParser()
    parser.add_argument("--traceweir", default=os.environ.get("TRACEWEIR", "build/release/traceweir"),
                        help="the binary under test")
    parser.add_argument("--only", help="only the tests whose name contains this")
    arguments = parser.parse_args()
    arguments.traceweir = os.path.abspath(arguments.traceweir)
    if not os.access(arguments.traceweir, os.X_OK):
        sys.exit(f"no traceweir at {arguments.traceweir}")
    failed = ran = 0
    for test in tests(arguments) if callable(tests) else tests:
        name = getattr(test, "__name__", str(test))
        if arguments.only and arguments.only not in name:
            continue
        ran += 1
        begin = time.monotonic()
        try:
            with directory(name.replace("/", "-").replace(" ", "-")) as path:
                test(arguments, path)
            result = "ok"
        except Failed as e:
            failed += 1
            result = f"FAILED: {e}"
        print(f"{name}: {time.monotonic() - begin:.1f} s: {result}", flush=True)
    print(f"{ran} tests, {failed} failed")
    sys.exit(1 if failed or not ran else 0)
