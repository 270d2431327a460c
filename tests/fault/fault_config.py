#!/usr/bin/env python3
"""Configurations and rule files that are wrong, at the start and on reload, with the real binary."""
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import otlp
from backend import HttpSink
from cases import case, run
from engine import BINARY, ERRORS, Engine, KEEP_ALL, REPORT, free_port, wait_for

MIB = 1 << 20
WRONG, MACHINE = 1, 3


def start(config, sets=(), command=("run", "--config"), env=None):
    """Runs the binary on a configuration (text, bytes, or a path) that must stop it; its exit code and what it said."""
    if isinstance(config, (str, bytes)):
        data = config.encode() if isinstance(config, str) else config
        f, path = tempfile.mkstemp(prefix="traceweir-test-", suffix=".yaml")
        os.write(f, data)
        os.close(f)
    else:
        path = str(config)
    args = [BINARY, *command, path]
    for s in sets:
        args += ["--set", s]
    p = subprocess.run(args, capture_output=True, timeout=60, env=dict(os.environ, **(env or {})), check=False)
    text = (p.stdout + p.stderr).decode("utf-8", "replace")
    assert not REPORT.search(text), text[-4000:]
    if isinstance(config, (str, bytes)):
        os.unlink(path)
    return p.returncode, text


def wrong(config, *words, place=None, **how):
    code, text = start(config, **how)
    assert code == WRONG, f"exit code {code}: {text[:500]}"
    for w in words:
        assert w in text, f"no {w!r} in: {text[:800]}"
    if place:
        column = r"\d+" if place.endswith(":") else ""
        assert re.search(rf":{place}{column}: error: ", text), f"no {place} in: {text[:800]}"
        assert "^" in text, text[:800]
    return text


def reload(e, text, outcome):
    before = e.value("traceweir_reloads_total", outcome=outcome)
    e.write_rules(text)
    e.kill(signal.SIGHUP)
    wait_for(lambda: e.value("traceweir_reloads_total", outcome=outcome) > before, f"a reload that is {outcome}")


@case("CFG-01 invalid YAML on reload")
def cfg_01():
    with Engine(KEEP_ALL) as e:
        generation = e.value("traceweir_rules_generation")
        for bad, place in ((KEEP_ALL + "  - { name: b, keep: [ }\n", None), ("rules:\n  - name: a\n    keep: most\n", "3:11"),
                           ("rules:\n  - name: a\n    when: '{ status = }'\n    keep: all\n", "3:"), ("\0\1\2", None), ("", None),
                           (KEEP_ALL.replace("keep: all", "keep: 101%"), None)):
            log = len(e.log())
            reload(e, bad, "failed")
            said = wait_for(lambda: e.log()[log:] if "not reloaded" in e.log()[log:] else None, "a log line")
            assert place is None or place in said, said
            assert e.value("traceweir_rules_generation") == generation
            e.send(otlp.good(2))
            m = e.settled()
            assert m.sum("traceweir_spans_let_go_total") == 0, "the old rules are not in force"
        os.unlink(e.rules_path)
        before = e.value("traceweir_reloads_total", outcome="failed")
        e.kill(signal.SIGHUP)
        wait_for(lambda: e.value("traceweir_reloads_total", outcome="failed") > before, "a reload without a file")
        reload(e, ERRORS, "ok")
        e.send(otlp.good(2))
        wait_for(lambda: e.value("traceweir_spans_let_go_total") == 2, "the new rules")
        e.oracle()


@case("CFG-02 undefined env")
def cfg_02():
    wrong("forward:\n  - name: b\n    otlp_grpc: ${env:TW_NO_SUCH_THING}\n", "TW_NO_SUCH_THING", place="3:16")
    wrong("rules: ${env:TW_NOT_CLOSED\n", place="1:")
    wrong("rules: ${env:" + "N" * 300 + "}\n", place="1:")
    code, text = start("log: { level: '${env:TW_NO_SUCH_THING:-silly}' }\n")
    assert code == WRONG and "silly" in text, text
    wrong("rules: '" + "${env:HOME}" * 200 + "'\n", env={"HOME": "x" * 1000})


@case("CFG-03 alias bomb / 200-deep")
def cfg_03():
    bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    for command in (("run", "--config"), ("check",)):
        wrong(bomb, "anchors", command=command)
        wrong("rules: " + "[" * 200 + "]" * 200 + "\n", command=command)
        wrong("rules:\n" + "".join(" " * i + "- \n" for i in range(1, 400)), command=command)
        wrong("rules: " + "{a: " * 100000 + "\n", command=command)
    wrong("", sets=["receive=" + "[" * 200])


@case("CFG-04 unknown key (error, with nearest name)")
def cfg_04():
    wrong("recieve:\n  otlp_grpc: 127.0.0.1:0\n", "recieve", "receive", place="1:1")
    wrong("receive:\n  otlp_grcp: 127.0.0.1:0\n", "otlp_grpc", place="2:3")
    wrong("forward:\n  - name: a\n    flie: x\n", "file", place="3:5")
    wrong("", "series_max", sets=["metrics.serie_max=5"])
    wrong("wait: { rooot: 5s }\nrules:\n  - { name: a, keep: all }\n", "root", command=("check",), place="1:9")
    wrong("memory_max: 1\n", place="1:13")
    wrong("workers: -1\n", place="1:10")
    wrong("workers: 1\nworkers: 2\n", place="2:1")


@case("CFG-05 port in use")
def cfg_05():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        for key in ("receive.otlp_grpc", "receive.otlp_http", "admin.listen"):
            sets = {"receive.otlp_grpc": "127.0.0.1:0", "receive.otlp_http": "127.0.0.1:0", "admin.listen": "off",
                    "forward.0.name": "f", "forward.0.file": "/dev/null"}
            sets[key] = f"127.0.0.1:{port}"
            code, text = start("", sets=[f"{k}={v}" for k, v in sets.items()])
            assert code == MACHINE and str(port) in text, f"{key}: {code} {text}"
    # A reload rereads the rules and touches no port: whoever has taken one elsewhere cannot hurt it.
    with Engine(KEEP_ALL) as e:
        reload(e, ERRORS, "ok")
        e.oracle()


@case("CFG-06 policy change with traces in flight")
def cfg_06():
    held = "wait: { root: 1h, idle: 1h, most: 1h }\n"
    with Engine(held + "rules: [ { name: first, keep: all } ]") as e:
        e.send(otlp.good(2))
        reload(e, held + "rules: [ { name: second, keep: none } ]", "ok")
        e.send(otlp.good(3))
        wait_for(lambda: e.value("traceweir_rules_generation") == 2, "the second generation")
        assert e.value("traceweir_spans_in_flight") == 5
        assert e.stop() == 0
        # A trace is decided by the rules that it began with.
        lines = "".join(e.kept_lines())
        assert lines.count('"spanId"') == 2 and '"first"' in lines and '"second"' not in lines, lines


@case("CFG-07 secret never in logs/zpages")
def cfg_07():
    secret = "tok-3f9a77c1"
    port = free_port()
    config = f"""
log: {{ level: debug }}
forward:
  - name: b
    otlp_http: http://127.0.0.1:{port}
    headers:
      authorization: "Bearer ${{env:TW_TEST_SECRET}}"
      x-plain: "plain-{secret}"
    backoff_first: 20ms
    backoff_most: 50ms
"""
    with Engine(KEEP_ALL, config=config, env={"TW_TEST_SECRET": secret}) as e:
        e.send(otlp.good(2))
        wait_for(lambda: e.value("traceweir_send_failures_total") >= 2, "failures that are logged")
        with HttpSink(lambda n, _: (503, [], b"no: Bearer") if n < 2 else None, port=port) as sink:
            wait_for(lambda: sink.spans == 2, "delivery")
            assert sink.heads[0]["authorization"] == f"Bearer {secret}"
            e.settled()
            for path in ("/", "/metrics", "/healthz", "/readyz", "/config", "/debug"):
                assert secret not in e.get(path)[1], path
            e.kill(signal.SIGHUP)
            assert e.stop() == 0
        assert secret not in e.log()
    bad = config.replace("x-plain:", "x plain:")
    assert secret not in start(bad, env={"TW_TEST_SECRET": secret})[1].replace(f"plain-{secret}", "")


@case("CFG-08 tabs, BOM, CRLF, empty file, 100 MB file")
def cfg_08():
    wrong("receive:\n\totlp_grpc: 127.0.0.1:0\n", place="2:")
    rules = "rules:\n  - { name: a, keep: all }\n"
    for text in (rules, "\ufeff" + rules, rules.replace("\n", "\r\n")):
        code, said = start(text, command=("check",))
        assert code == 0, said
    wrong("rules:\n\t- { name: a, keep: all }\n", place="2:", command=("check",))
    assert start("", command=("check",))[0] == 0  # an empty configuration: the defaults
    # Empty, a comment, nothing but a BOM: the defaults, as far as the port that we have taken for it.
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        for text in ("", "# nothing\n", "\ufeff", "\r\n"):
            code, said = start(text, sets=[f"receive.otlp_grpc=127.0.0.1:{s.getsockname()[1]}", "forward.0.name=f",
                                           "forward.0.file=/dev/null"])
            assert code == MACHINE, f"{code} {said}"
    with tempfile.NamedTemporaryFile(suffix=".yaml") as f:
        f.truncate(100 * MIB)
        for command in (("run", "--config"), ("check",)):
            wrong(pathlib.Path(f.name), command=command)
        f.seek(0)
        f.write(b"# " + b"x" * (2 * MIB))
        f.flush()
        wrong(pathlib.Path(f.name))
    wrong(pathlib.Path("/nonexistent/traceweir.yaml"))
    wrong(pathlib.Path("/"))
    with Engine(KEEP_ALL) as e:
        reload(e, KEEP_ALL + "#" * (2 * MIB), "failed")
        e.oracle()


if __name__ == "__main__":
    run()
