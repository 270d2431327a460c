#!/usr/bin/env python3
"""Each named fault case is carried by a test: fault_coverage.py ROOT. Looks for the names of test functions
(IN_06_truncated_protobuf in C) and of cases (@case("IN-06 …") in Python), and that README.md lists just those files."""
import pathlib
import re
import sys


def ids(family, *numbers):
    return [f"{family}-{n:02}" for n in numbers]


DUE = (ids("IN", 1, 2, *range(4, 17), *range(19, 23)) + ids("H2", *range(1, 19)) + ids("H1", *range(1, 8)) +
       ids("LOAD", *range(2, 9), 10, 11) + ids("BK", *range(1, 17), 19) + ids("MEM", 1) + ids("PROC", *range(1, 8)) +
       ids("TIME", 1, 4) + ids("CFG", *range(1, 9)) + ids("DISK", 1, 4, 6))

FUNCTION = re.compile(r"^static void (\w+)\(void \*\*")
ID = re.compile(r"(?<![A-Z0-9])(IN|H2|H1|LOAD|BK|MEM|PROC|TIME|CFG|DISK)_(\d\d)(?=_|$)")
CASE = re.compile(r'^@case\("([^"]+)"\)')
CASE_ID = re.compile(r"^([A-Z0-9]+-\d\d) ")
ROW = re.compile(r"^\| ([A-Z0-9]+-\d\d) \| [^|]* \| (.*) \|$")


def in_c(text):
    """IDs in the names of a C file's tests."""
    for line in text.splitlines():
        match = FUNCTION.match(line)
        if match and re.search(rf"cmocka_unit_test\w*\(\s*{match[1]}\b", text):
            for family, number in ID.findall(match[1]):
                yield f"{family}-{number}"


def in_python(text):
    for line in text.splitlines():
        match = CASE.match(line)
        if match and CASE_ID.match(match[1] + " "):
            yield CASE_ID.match(match[1] + " ")[1]


def carriers(root):
    """ID → the files, relative to tests/, that have a test of that name."""
    out = {}
    tests = root / "tests"
    for path in sorted(tests.rglob("*")):
        reader = {".c": in_c, ".py": in_python}.get(path.suffix)
        if reader is None or path.name == "fault_coverage.py":
            continue
        for case in reader(path.read_text(encoding="utf-8", errors="replace")):
            out.setdefault(case, set()).add(str(path.relative_to(tests)))
    return out


def listed(root):
    text = (root / "tests" / "fault" / "README.md").read_text(encoding="utf-8")
    return {m[1]: set(re.findall(r"`([^`]+)`", m[2])) for m in map(ROW.match, text.splitlines()) if m}


def main(root):
    have, table, faults = carriers(root), listed(root), 0
    for case in DUE:
        if case not in have:
            print(f"{case}: no test carries its name")
            faults += 1
        elif case not in table:
            print(f"{case}: not in tests/fault/README.md")
            faults += 1
        for name in sorted(table.get(case, set()) - have.get(case, set())):
            print(f"{case}: README.md names {name}, which has no such test")
            faults += 1
    print(f"{len(DUE)} cases are due, {faults} faults")
    return 1 if faults else 0


def write_table(root):
    """The README's table anew, from what is there."""
    have = carriers(root)
    path = root / "tests" / "fault" / "README.md"
    text = path.read_text(encoding="utf-8")
    names = {m[1]: m[2] for m in re.finditer(r"^\| ([A-Z0-9]+-\d\d) \| ([^|]*) \|", text, re.M)}
    rows = [f"| {c} | {names.get(c, '')} | " + ", ".join(f"`{f}`" for f in sorted(have.get(c, []))) + " |" for c in DUE]
    head, _, _ = text.partition("| ID |")
    path.write_text(head + "| ID | what is done to it | tests, under tests/ |\n|---|---|---|\n" + "\n".join(rows) + "\n",
                    encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] == "--write-table":
        write_table(pathlib.Path(sys.argv[1]))
    sys.exit(main(pathlib.Path(sys.argv[1])))
