#!/usr/bin/env python3
"""The rules of the house that a machine can check: lint.py ROOT. Exit 0, or 1 with a line for each fault.

What a folder may include is the table of the layers; a public header counts as part of its module."""
import pathlib
import re
import sys

OPTIONS = ["admin", "buffer", "forward", "metrics", "model", "net", "receive", "rules", "wire"]
LAYERS = {
    "base": [],
    "model": ["base"],
    "net": ["base"],
    "wire": ["base", "model"],
    "buffer": ["base", "model"],
    "rules": ["base", "model"],
    "metrics": ["base", "model"],
    "receive": ["base", "model", "wire", "net"],
    "forward": ["base", "model", "wire", "net"],
    "admin": ["base", "net", "metrics"],
    "config": ["base"] + OPTIONS,
    "engine": ["base", "config"] + OPTIONS,
    "cli": ["engine", "config", "rules", "wire", "base", "model"],
}
TOP = {"src", "include", "rules", "bench", "tests", "CMakeLists.txt", "CMakePresets.json",
       "README.md", "LICENSE", "build"}
PACKAGES = ".packages"

SOURCE_LINES_MAX = 1000
HEADER_LINES_MAX = 300
COLUMNS_MAX = 120
TAB = 8

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')
# A word that only a list of Debian packages has.
PACKAGE = re.compile(r"\b(lib[a-z0-9]+(?:-[a-z0-9]+)*-dev|zlib1g-dev)\b")


def module_of_public(include):
    """tw/base/mem.h and tw/base.h both belong to base."""
    return include[len("tw/"):].split("/")[0].removesuffix(".h")


def read(path):
    return path.read_text(encoding="utf-8", errors="replace")


def c_files(root, *folders):
    for folder in folders:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in (".c", ".h") and path.is_file():
                yield path


def check_include(module, folder, include):
    """What is wrong with one #include "…" of a file in `folder`, or None."""
    if include.startswith("tw/"):
        other = module_of_public(include)
        if other not in LAYERS:
            return f'no module has "{include}"'
        if other != module and other not in LAYERS[module]:
            return f'{module} may not include "{include}"'
        return None
    if ".." in include:
        return f'"{include}" climbs out of its folder'
    if folder is None:
        return f'a public header includes the private "{include}"'
    if "/" in include and not (folder / include).exists():
        return f'"{include}" is not in this folder'
    return None


def check_layers(root):
    for path in c_files(root, "src", "include/tw"):
        parts = path.relative_to(root).parts
        private = parts[0] == "src"
        module = parts[1] if private else module_of_public("/".join(parts[1:]))
        if module not in LAYERS:
            yield path, 0, f"{module} is in no layer"
            continue
        folder = root / "src" / module if private else None
        for number, line in enumerate(read(path).splitlines(), 1):
            match = INCLUDE.match(line)
            fault = match and check_include(module, folder, match[1])
            if fault:
                yield path, number, fault


def check_private_owners(root):
    """A private header's name that is only some other folder's."""
    homes = {}
    for path in c_files(root, "src"):
        if path.suffix == ".h":
            homes.setdefault(path.name, set()).add(path.parent)
    for path in c_files(root, "src"):
        for number, line in enumerate(read(path).splitlines(), 1):
            match = INCLUDE.match(line)
            if not match or match[1].startswith("tw/"):
                continue
            name = pathlib.PurePath(match[1]).name
            if name in homes and path.parts[:-1] and not any(
                    home.is_relative_to(root / "src" / path.relative_to(root).parts[1])
                    for home in homes[name]):
                yield path, number, f'"{match[1]}" is private to another folder'


def check_guards(root):
    for path in c_files(root, "src", "include/tw", "tests"):
        if path.suffix != ".h":
            continue
        text = read(path)
        match = re.search(r"^#ifndef (\w+_H)\n#define (\w+)\n", text, re.M)
        if not match or match[1] != match[2] or not text.rstrip().endswith("#endif"):
            yield path, 1, "no include guard around the whole file"


def check_sizes(root):
    for path in c_files(root, "src", "include/tw", "tests", "bench"):
        lines = read(path).splitlines()
        limit = HEADER_LINES_MAX if path.suffix == ".h" else SOURCE_LINES_MAX
        if len(lines) > limit:
            yield path, len(lines), f"more than {limit} lines: that is two files"
        for number, line in enumerate(lines, 1):
            columns = len(line.expandtabs(TAB))
            if columns > COLUMNS_MAX:
                yield path, number, f"{columns} columns, {COLUMNS_MAX} at most"
            if line != line.rstrip():
                yield path, number, "white space at the end"


def check_top(root):
    for path in sorted(root.iterdir()):
        if not path.name.startswith(".") and path.name not in TOP:
            yield path, 0, "not one of the top level's names"


def check_packages(root):
    """One list: nothing else names the packages that it holds."""
    if not (root / PACKAGES).is_file():
        yield root / PACKAGES, 0, "the list of packages is missing"
        return
    seen = set()
    for number, line in enumerate(read(root / PACKAGES).splitlines(), 1):
        match = re.fullmatch(r"([a-z0-9][a-z0-9.+-]+) (-|pkg:\w+=\S+|program:\S+|file:/\S+)", line)
        if not match:
            yield root / PACKAGES, number, "want: PACKAGE, a space, how its presence shows"
        elif match[1] in seen:
            yield root / PACKAGES, number, f"{match[1]} is there twice"
        else:
            seen.add(match[1])
    others = [root / "README.md", root / ".ci/run", *root.rglob("CMakeLists.txt")]
    for path in others:
        if not path.is_file() or "build" in path.relative_to(root).parts:
            continue
        for number, line in enumerate(read(path).splitlines(), 1):
            for package in PACKAGE.findall(line):
                if package in seen:
                    yield path, number, f"{package} belongs into {PACKAGES} only"


CHECKS = [check_layers, check_private_owners, check_guards, check_sizes, check_top, check_packages]


def faults(root):
    root = pathlib.Path(root)
    for check in CHECKS:
        for path, number, text in check(root):
            yield f"{path.relative_to(root)}:{number}: {text}"


def main():
    found = list(faults(sys.argv[1]))
    print(*found, sep="\n")
    print(f"{len(found)} faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
