#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""check-attacks.py [--write]: docs/attacks.md against the tests.

Each numbered line of the table has at least one test /attest/attack/NUMBER-CLAIM, or stands among those
that no test can show, with the reason.  Reason codes that the table names exist in the sources.  The
column of tests is generated: --write brings it up to date."""

import collections
import re
import sys

import sources

TABLE = "docs/attacks.md"
LAST = 108
TEST = re.compile(r'(?:/attest/attack/|\bATTACK\(\s*")(\d+)-([a-z0-9-]+)"')
ROW = re.compile(r"^\| (\d+) \| ([^|]*) \| ([^|]*) \|([^|]*)\|$")
CODE = re.compile(r"`([^`]+)`")
UNTESTED = "no test: "


def tests():
    """number -> sorted names of its tests"""
    found = collections.defaultdict(set)
    for name in sources.tracked():
        if name.startswith("tests/") and name.endswith(".c"):
            for number, claim in TEST.findall(sources.text_of(name) or ""):
                found[int(number)].add(f"`{claim}`")
    return {number: sorted(claims) for number, claims in found.items()}


def codes():
    """Every string of the product that could be a reason's name."""
    text = "".join(sources.text_of(n) or "" for n in sources.c_files() if not n.startswith("tests/"))
    return set(re.findall(r'"([a-z0-9][a-z0-9-]*)"', text))


def judge(number, reason, listed, have, known):
    findings = []
    untested = listed.strip().startswith(UNTESTED)
    if not have and not untested:
        findings.append("has no test and no 'no test: WHY'")
    if have and untested:
        findings.append("says that there is no test, but there is one")
    if have and not untested and listed.strip() != ", ".join(have):
        findings.append("its tests changed: run /usr/bin/python3 tests/lint/check-attacks.py --write")
    findings += [f"no reason '{code}' in the sources" for code in CODE.findall(reason) if code not in known]
    return [f"{TABLE}: line {number}: {what}" for what in findings]


def main():
    write = sys.argv[1:] == ["--write"]
    found, known, findings, seen, lines = tests(), codes(), [], [], []
    for line in (sources.ROOT / TABLE).read_text(encoding="utf-8").splitlines():
        match = ROW.match(line)
        if match:
            number, have = int(match[1]), found.get(int(match[1]), [])
            seen.append(number)
            if write and have:
                line = f"| {number} | {match[2]} | {match[3]} | {', '.join(have)} |"
            else:
                findings += judge(number, match[3], match[4], have, known)
        lines.append(line)
    if seen != list(range(1, LAST + 1)):
        findings.append(f"{TABLE}: its lines are not 1 to {LAST} in order")
    findings += [f"{TABLE}: a test is named after line {n}, which there is not" for n in sorted(found)
                 if n not in seen]
    if write:
        (sources.ROOT / TABLE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    sources.finish(findings, f"{len(seen)} attacks, {sum(map(len, found.values()))} tests")


main()
