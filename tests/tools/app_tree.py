#!/usr/bin/env python3
"""app_tree.py DIR [FILES]: makes a tree like that of a Python or Node application: FILES (30000) files, most of
them small, in packages of packages, with some links. DIR must not exist. The same each time."""
import os
import random
import sys

WORDS = "core util http parse lexer model index test types stream cache route build plugin async buffer".split()
ENDINGS = [".js"] * 5 + [".py"] * 4 + [".d.ts"] * 2 + [".json", ".md", ".map", ".pyc", ".so"]
DIR_FILES = 10  # on average


def main():
    root, files = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 30000
    rng = random.Random(1)
    text = bytes(rng.randrange(32, 127) for _ in range(1 << 20))
    os.makedirs(root)
    dirs, made = [(root, 0)], 0
    while made < files:
        top, depth = rng.choice(dirs[-400:])
        if depth < 9:
            name = f"{rng.choice(WORDS)}-{len(dirs)}" if depth % 2 else f"{rng.choice(WORDS)}{len(dirs)}"
            path = os.path.join(top, name)
            os.mkdir(path)
            dirs.append((path, depth + 1))
        else:
            path = top
        for _ in range(min(files - made, 1 + int(rng.expovariate(1 / DIR_FILES)))):
            size = min(int(rng.lognormvariate(7.6, 1.4)), 800000)
            at = rng.randrange(len(text) - size)
            name = f"{rng.choice(WORDS)}_{made:x}{rng.choice(ENDINGS)}"
            with open(os.path.join(path, name), "wb") as f:
                f.write(text[at : at + size])
            made += 1
            if made % 100 == 0:
                os.symlink(name, os.path.join(path, f"bin-{made}"))
            if made % 500 == 0:
                os.link(os.path.join(path, name), os.path.join(path, f"same-{made}"))


if __name__ == "__main__":
    main()
