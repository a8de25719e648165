# SPDX-License-Identifier: GPL-2.0-or-later
"""coverage.py BUILD-DIR: share of lines that ran, by file, from what gcc's gcov recorded there."""

import collections
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def main():
    build = pathlib.Path(sys.argv[1]).resolve()
    ran = collections.defaultdict(dict)  # file -> line -> times
    for data in sorted(build.rglob("*.gcda")):
        done = subprocess.run(["gcov", "--json-format", "--stdout", str(data)], cwd=build, text=True,
                              capture_output=True, check=False)
        for line in done.stdout.splitlines():
            for unit in json.loads(line)["files"]:
                name = os.path.relpath(os.path.join(build, unit["file"]), ROOT)
                if name.startswith(("..", "/", "build", "tests")):
                    continue
                lines = ran[name]
                for entry in unit["lines"]:
                    number = entry["line_number"]
                    lines[number] = max(lines.get(number, 0), entry["count"])
    total = hit = 0
    for name, lines in sorted(ran.items()):
        covered = sum(1 for count in lines.values() if count)
        total, hit = total + len(lines), hit + covered
        print(f"{100 * covered / max(1, len(lines)):5.1f} %  {covered:5}/{len(lines):<5}  {name}")
    print(f"{100 * hit / max(1, total):5.1f} %  {hit:5}/{total:<5}  in all")


main()
