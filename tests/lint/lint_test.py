#!/usr/bin/env python3
"""Every check of lint.py finds its fault, and finds none in a clean tree."""
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).parent))
import lint  # noqa: E402

HEADER = "#ifndef X_H\n#define X_H\n{}\n#endif\n"
CLEAN = {
    ".packages": "libuv1-dev pkg:uv=libuv\ngcc -\n",
    "CMakeLists.txt": "project(x)\n",
    "include/tw/base/mem.h": HEADER.format(""),
    "include/tw/wire.h": HEADER.format('#include "tw/base/mem.h"'),
    "src/wire/scan.c": '#include "tw/wire.h"\n#include "tw/model/span.h"\n#include "walk.h"\n',
    "src/wire/walk.h": HEADER.format(""),
    "src/buffer/log.h": HEADER.format(""),
}


class Lint(unittest.TestCase):
    def faults(self, **changes):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**CLEAN, **changes.get("files", {})}.items():
                path = pathlib.Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return list(lint.faults(folder))

    def one_fault(self, name, text, expected):
        found = self.faults(files={name: text})
        self.assertEqual(len(found), 1, found)
        self.assertIn(expected, found[0])
        self.assertTrue(found[0].startswith(name), found)

    def test_clean(self):
        self.assertEqual(self.faults(), [])

    def test_layer_above(self):
        self.one_fault("src/wire/a.c", '#include "tw/engine.h"\n', "wire may not include")

    def test_layer_beside(self):
        self.one_fault("src/buffer/a.c", '\n# include "tw/rules.h"\n', "buffer may not include")

    def test_base_includes_nothing(self):
        self.one_fault("src/base/a.c", '#include "tw/model/span.h"\n', "base may not include")

    def test_public_header_keeps_to_its_layer(self):
        self.one_fault("include/tw/net.h", HEADER.format('#include "tw/wire.h"'), "net may not")

    def test_public_header_includes_private(self):
        self.one_fault("include/tw/net.h", HEADER.format('#include "conn.h"'), "private")

    def test_unknown_module(self):
        self.one_fault("src/wire/a.c", '#include "tw/wrie.h"\n', "no module has")

    def test_private_header_of_another_folder(self):
        self.one_fault("src/wire/a.c", '#include "log.h"\n', "private to another folder")

    def test_climbing(self):
        found = self.faults(files={"src/wire/a.c": '#include "../buffer/log.h"\n'})
        self.assertTrue(any("climbs out" in fault for fault in found), found)

    def test_folder_in_no_layer(self):
        self.one_fault("src/misc/a.c", "\n", "in no layer")

    def test_guard(self):
        self.one_fault("src/wire/a.h", "int a;\n", "include guard")
        self.one_fault("src/wire/a.h", "#ifndef A_H\n#define B_H\n#endif\n", "include guard")

    def test_long_file(self):
        self.one_fault("src/wire/a.c", "int a;\n" * 1001, "two files")

    def test_long_line(self):
        self.one_fault("src/wire/a.c", "\t" * 15 + "x\n", "121 columns")

    def test_trailing_space(self):
        self.one_fault("src/wire/a.c", "int a; \n", "white space")

    def test_top_level(self):
        self.one_fault("notes.txt", "x", "top level")

    def test_second_list_of_packages(self):
        self.one_fault("README.md", "apt-get install libuv1-dev\n", "libuv1-dev belongs")

    def test_list_of_packages(self):
        self.one_fault(".packages", "libuv1-dev\n", "want")
        self.one_fault(".packages", "gcc -\ngcc -\n", "twice")


if __name__ == "__main__":
    unittest.main()
