"""Runs micro_engine under callgrind and reads what it counted."""
import os
import subprocess
import tempfile


def key_values(text):
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def inclusive(lines):
    """Of a callgrind output file: function → instructions in it and in what it calls; None → all."""
    names, sums, total = {}, {}, 0
    fn = None
    for line in lines:
        if line.startswith("fn="):
            number, _, name = line[3:].rstrip("\n").partition(" ")
            if name:
                names[number] = name
            fn = names[number]
        elif line.startswith("cfn="):
            number, _, name = line[4:].rstrip("\n").partition(" ")
            if name:
                names[number] = name
        elif line.startswith("summary:") or line.startswith("totals:"):
            total = int(line.split()[1])
        elif fn and line[0] in "0123456789+-*":
            sums[fn] = sums.get(fn, 0) + int(line.split()[1])
        elif line == "\n":
            fn = None
    sums[None] = total
    return sums


def count(program, *options):
    """Instructions of what micro_engine measures, and the lines that it printed."""
    with tempfile.TemporaryDirectory(prefix="callgrind.") as folder:
        out = os.path.join(folder, "out")
        done = subprocess.run(
            ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", "--collect-atstart=no",
             f"--callgrind-out-file={out}", program, *map(str, options)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"micro_engine ended with {done.returncode}:\n{done.stderr}")
        with open(out) as f:
            return inclusive(f), key_values(done.stdout)
