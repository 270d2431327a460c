#!/usr/bin/env python3
"""The command line as a stranger meets it: exit codes, messages with a caret, reloads, `check --on`, the demo."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess

from harness import main, otlp, spans
from harness.engine import Engine
from harness.process import await_, check, free_port

KEEP_ALL = "wait: { root: 100ms, idle: 300ms, most: 5s }\nrules:\n  - name: all\n    keep: all\n"
KEEP_NONE = KEEP_ALL.replace("name: all", "name: nothing").replace("keep: all", "keep: none")
BROKEN = "rules:\n  - name: a\n    when: '{ status = errr }'\n    keep: all\n"


def call(arguments, *argv, cwd=None, env=None):
    """(exit code, stdout, stderr)"""
    done = subprocess.run([arguments.traceweir, *argv], stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
                          cwd=cwd, env=dict(os.environ, **(env or {})), check=False)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def expect(got, code, *texts):
    everything = got[1] + got[2]
    check(got[0] == code, f"exit code {got[0]}, not {code}: {everything}")
    for text in texts:
        check(text in everything, f"not said: {text!r} in: {everything}")


def called_wrongly(arguments, directory):
    for argv in ([], ["frobnicate"], ["check"], ["run", "extra"], ["run", "--config"], ["run", "--set"],
                 ["run", "--frob"], ["demo", "extra"]):
        got = call(arguments, *argv, cwd=directory)
        expect(got, 2, "usage:")
        check(got[1] == "", f"{argv}: the complaint belongs on stderr")
    expect(call(arguments, "--help"), 0, "usage:", "exit codes:")
    code, out, _ = call(arguments, "--version")
    check(code == 0 and re.fullmatch(r"traceweir \d+\.\d+\.\d+\n", out), f"--version: {code} {out!r}")


def check_and_carets(arguments, directory):
    write(directory, "good.yaml", KEEP_ALL)
    write(directory, "broken.yaml", BROKEN)
    write(directory, "config.yaml", "receive:\n  otlp_grcp: 127.0.0.1:4317\n")
    expect(call(arguments, "check", "good.yaml", cwd=directory), 0, "good.yaml")
    expect(call(arguments, "check", "broken.yaml", cwd=directory), 1, "broken.yaml:3:23: error: ", "errr", "error`",
           "when: '{ status = errr }'\n")
    code, _, err = call(arguments, "check", "good.yaml", "broken.yaml", cwd=directory)
    check(code == 1, "one bad file among good ones")
    line, below = err.splitlines()[1:3]
    check(below.index("^") == line.index("errr"), f"the caret is not under the mistake:\n{line}\n{below}")
    expect(call(arguments, "check", "config.yaml", cwd=directory), 1, "config.yaml:2:3: error: ", "otlp_grpc", "^")
    expect(call(arguments, "check", "nowhere.yaml", cwd=directory), 1, "nowhere.yaml", "No such file")


def run_refuses(arguments, directory):
    write(directory, "broken.yaml", BROKEN)
    config = write(directory, "config.yaml", "forward:\n  - name: a\n    otlp_grpc: 127.0.0.1:1\n    when_ful: drop\n")
    for argv, texts in ((["--config", config], ["config.yaml:4:5: error: ", "when_full", "^"]),
                        (["--config", "nowhere.yaml"], ["nowhere.yaml", "No such file"]),
                        (["--set", "rules=broken.yaml"], ["broken.yaml:3:23: error: ", "^"]),
                        (["--set", "rules=nowhere.yaml"], ["nowhere.yaml"]),
                        (["--set", "receive.otlp_grpc=nonsense"], ["receive.otlp_grpc", "^"]),
                        (["--set", "nokey=1"], ["nokey"]), (["--set", "nokey"], ["KEY.PATH=VALUE"]),
                        (["--set", "forward.0.otlp_grpc=${env:TW_E2E_UNSET}"], ["TW_E2E_UNSET"])):
        expect(call(arguments, "run", *argv, cwd=directory), 1, *texts)


def machine_refuses(arguments, directory):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key in ("receive.otlp_grpc", "receive.otlp_http", "admin.listen"):
            listen = {"receive.otlp_grpc": "127.0.0.1:0", "receive.otlp_http": "127.0.0.1:0",
                      "admin.listen": f"127.0.0.1:{free_port()}", key: address}
            sets = [x for k, v in listen.items() for x in ("--set", f"{k}={v}")]
            expect(call(arguments, "run", *sets, cwd=directory), 3, address, "in use")
    nowhere = f"forward=[{{name: f, file: '{directory}/nowhere/kept.jsonl'}}]"
    expect(call(arguments, "run", "--set", "receive.otlp_grpc=127.0.0.1:0", "--set", "receive.otlp_http=127.0.0.1:0",
                "--set", f"admin.listen=127.0.0.1:{free_port()}", "--set", nowhere, cwd=directory),
           3, "nowhere/kept.jsonl")


def file_to(directory, name="kept.jsonl"):
    return f"forward=[{{name: file, file: '{os.path.join(directory, name)}'}}]"


def ends_well(arguments, directory):
    """SIGTERM decides what is in flight, and nothing of it is lost; so does SIGINT."""
    for number, name in ((signal.SIGTERM, "term.jsonl"), (signal.SIGINT, "int.jsonl")):
        slow = KEEP_ALL.replace("100ms", "60s").replace("300ms", "60s").replace("5s", "120s")
        with Engine(arguments.traceweir, directory, rules=slow, sets=[file_to(directory, name)],
                    name=name[:-6]) as engine:
            engine.await_ready()
            trace = otlp.ids(16)
            otlp.post(engine.http_port, "shop", [otlp.Span(trace, "a"), otlp.Span(trace, "b", root=False)])
            check(engine.metrics().value("traceweir_spans_in_flight") == 2, "both spans wait for their trace")
            engine.signal(number)
            check(engine.wait() == 0, f"ended with {engine.wait()} after signal {number}")
            got = spans.read_otlp_lines(os.path.join(directory, name))
            check(sorted(s["name"] for s in got.values()) == ["a", "b"], f"the file holds {got}")
            for s in got.values():
                spans.take_off_decision(s, "all", {"drain"})


def not_delivered(arguments, directory):
    """Exit code 4, and the books say what was lost."""
    dead = f"forward=[{{name: dead, otlp_grpc: '127.0.0.1:{free_port()}'}}]"
    with Engine(arguments.traceweir, directory, rules=KEEP_ALL, sets=[dead, "drain.most=1s"]) as engine:
        engine.await_ready()
        otlp.post(engine.http_port, "shop", [otlp.Span(otlp.ids(16), "a")])
        await_("the span in the queue",
               lambda: engine.metrics().value("traceweir_queued_spans", destination="dead") == 1, alive=[engine])
        check(engine.stop() == 4, f"ended with {engine.wait()}, not 4")
        check("lost=1" in engine.log(), "the log does not say that a span was lost")


def send_one(engine):
    otlp.post(engine.http_port, "shop", [otlp.Span(otlp.ids(16), "a")])


def await_reload(engine, outcome):
    await_(f"a reload: {outcome}", lambda: engine.metrics().value("traceweir_reloads_total", outcome=outcome) >= 1,
           alive=[engine])


def generation(engine):
    return engine.metrics().value("traceweir_rules_generation")


def await_kept(engine, kept, let_go):
    def done():
        m = engine.metrics()
        m.check_books()
        return m.sum("traceweir_spans_kept_total") == kept and m.sum("traceweir_spans_let_go_total") == let_go
    await_(f"{kept} spans kept and {let_go} let go", done, alive=[engine])


def reload_by_signal(arguments, directory):
    with Engine(arguments.traceweir, directory, rules=KEEP_ALL, sets=[file_to(directory)]) as engine:
        engine.await_ready()
        send_one(engine)
        await_kept(engine, 1, 0)
        write(directory, os.path.basename(engine.rules_path), KEEP_NONE)
        engine.signal(signal.SIGHUP)
        await_reload(engine, "ok")
        send_one(engine)
        await_kept(engine, 1, 1)
        before = generation(engine)
        write(directory, os.path.basename(engine.rules_path), BROKEN)
        engine.signal(signal.SIGHUP)
        await_reload(engine, "failed")
        check(generation(engine) == before, "a bad file changed the rules")
        check("errr" in engine.log(), "the log does not say what is wrong with the rules")
        send_one(engine)
        await_kept(engine, 1, 2)
        check(engine.stop() == 0, "traceweir did not end well")


def reload_by_link_swap(arguments, directory):
    """A Kubernetes ConfigMap: the file is a link through ..data, which is swapped for another folder."""
    for name, rules in (("v1", KEEP_ALL), ("v2", KEEP_NONE)):
        os.mkdir(os.path.join(directory, name))
        write(os.path.join(directory, name), "rules.yaml", rules)
    os.symlink("v1", os.path.join(directory, "..data"))
    os.symlink("..data/rules.yaml", os.path.join(directory, "mounted.yaml"))
    sets = [file_to(directory), f"rules={directory}/mounted.yaml"]
    with Engine(arguments.traceweir, directory, sets=sets) as engine:
        engine.await_ready()
        send_one(engine)
        await_kept(engine, 1, 0)
        os.symlink("v2", os.path.join(directory, "..new"))
        os.rename(os.path.join(directory, "..new"), os.path.join(directory, "..data"))
        await_("the new rules, without a signal", lambda: generation(engine) == 2, alive=[engine])
        send_one(engine)
        await_kept(engine, 1, 1)
        check(engine.stop() == 0, "traceweir did not end well")


def reopens_its_file(arguments, directory):
    """logrotate: the file is moved away, SIGHUP, and the next trace goes to a new one; none is lost or there twice."""
    kept, moved = os.path.join(directory, "kept.jsonl"), os.path.join(directory, "kept.1.jsonl")
    with Engine(arguments.traceweir, directory, rules=KEEP_ALL, sets=[file_to(directory)]) as engine:
        engine.await_ready()
        send_one(engine)
        engine.await_forwarded(1, ["file"])
        os.rename(kept, moved)
        engine.signal(signal.SIGHUP)
        await_("the new file", lambda: os.path.exists(kept), alive=[engine])
        send_one(engine)
        engine.await_forwarded(2, ["file"])
        check(engine.stop() == 0, "traceweir did not end well")
    old, new = spans.read_otlp_lines(moved), spans.read_otlp_lines(kept)
    check(len(old) == 1 and len(new) == 1 and old.keys() != new.keys(),
          f"the files hold {len(old)} and {len(new)} spans")


def check_on(arguments, directory):
    """Each trace of a file is named with the rule that takes it."""
    rules = write(directory, "rules.yaml", """\
rules:
  - { name: errors, when: '{ status = error }', keep: all }
  - { name: probes, when: '{ name = "GET /healthz" }', keep: none }
  - { name: rest, keep: all }
""")
    traces = {otlp.ids(16): rule for rule in ("errors", "probes", "rest")}
    of = {rule: trace for trace, rule in traces.items()}
    lines = [otlp.request("shop", [otlp.Span(of["errors"], "a")]),
             otlp.request("shop", [otlp.Span(of["probes"], "GET /healthz")]),
             otlp.request("shop", [otlp.Span(of["rest"], "a")]),
             # decides for its whole trace, which began three lines above
             otlp.request("stock", [otlp.Span(of["errors"], "b", status="ERROR", root=False)])]
    file = write(directory, "traces.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    code, out, err = call(arguments, "check", rules, "--on", file)
    check(code == 0, f"exit code {code}: {err}")
    for trace, rule in traces.items():
        line = next((one for one in out.splitlines() if trace in one), "")
        check(rule in line.split(), f"trace {trace} is not given to {rule}: {out}")
    bad = write(directory, "bad.jsonl", json.dumps(lines[0]) + "\n{\"resourceSpans\": 7}\n")
    expect(call(arguments, "check", rules, "--on", bad), 1, "bad.jsonl")


def demo(arguments, directory):
    """Ends by itself with 0; says what was kept and why, and where the metrics are. Its numbers agree with its file."""
    code, out, err = call(arguments, "demo", cwd=directory, env={"TMPDIR": directory})
    check(code == 0, f"exit code {code}: {out}{err}")
    kept, sent = map(int, re.search(r"Kept (\d+) of (\d+) traces", out).groups())
    by_rule = {rule: int(n) for n, rule in re.findall(r"^ +(\d+) +by rule '(\w+)'", out, re.MULTILINE)}
    failed, slow = map(int, re.search(r"(\d+) traces failed and (\d+) took longer", out).groups())
    check(sum(by_rule.values()) == kept, f"{by_rule} are not {kept}")
    check(by_rule["errors"] == failed, f"{failed} traces failed, {by_rule['errors']} were kept for it")
    check(0 < by_rule["slow"] <= slow and 0 < failed, f"{slow} were slow: {by_rule}")
    check("/metrics" in out, "where are the metrics?")
    file = re.search(r"(/\S+/kept\.jsonl)", out).group(1)
    check(len({trace for trace, _ in spans.read_otlp_lines(file)}) == kept, f"{file} does not hold {kept} traces")
    received = int(re.search(r"traceweir_spans_received_total +(\d+)", out).group(1))
    check(received == sent * 8, f"{received} spans were received of {sent} traces")
    shutil.rmtree(os.path.dirname(file))


if __name__ == "__main__":
    main.run([called_wrongly, check_and_carets, run_refuses, machine_refuses, ends_well, not_delivered,
              reload_by_signal, reload_by_link_swap, reopens_its_file, check_on, demo])
