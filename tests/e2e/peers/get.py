#!/usr/bin/env python3
"""get.py NAME…: builds the peers that are not in the cache yet and prints how each is called. No name: lists them."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from harness import peers  # noqa: E402
from harness.process import Failed  # noqa: E402


def main():
    names = sys.argv[1:]
    if not names:
        print("\n".join(peers.PEERS))
        return 2
    for name in names:
        if name not in peers.PEERS:
            print(f"no peer is called {name}: {', '.join(peers.PEERS)}", file=sys.stderr)
            return 2
        try:
            print(name, *peers.get(name))
        except Failed as e:
            print(e, file=sys.stderr)
            return 1
    return 0


sys.exit(main())
