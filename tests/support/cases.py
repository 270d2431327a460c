"""Named cases: registered with @case, run in order, one line each; the exit code is that of a test."""
import shutil
import sys
import tempfile
import time
import traceback

_cases = []


def case(name):
    def keep(f):
        _cases.append((name, f))
        return f

    return keep


def run(setup=None, after=None):
    """Runs the cases, or those that have a command line argument in their name. after(context) follows each. Their
    files go to one folder, which stays where a case failed."""
    only = sys.argv[1:]
    tempfile.tempdir = tempfile.mkdtemp(prefix="traceweir-test-")
    passed = failed = 0
    context = setup() if setup else None
    for name, f in _cases:
        if only and not any(o in name for o in only):
            continue
        start = time.monotonic()
        try:
            f(context) if setup else f()
            if after:
                after(context)
            passed += 1
            print(f"ok     {name}  ({time.monotonic() - start:.1f} s)", flush=True)
        except Exception:  # a failed case is a line, and the next one runs
            failed += 1
            print(f"FAILED {name}  ({time.monotonic() - start:.1f} s)", flush=True)
            traceback.print_exc()
            sys.stderr.flush()
    if hasattr(context, "stop"):
        try:
            code = context.stop()
            assert code == 0, f"exit code {code}"
        except AssertionError as e:
            failed += 1
            print(f"FAILED at the end: {e}")
    if failed:
        print(f"their files: {tempfile.tempdir}")
    else:
        shutil.rmtree(tempfile.tempdir, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)
