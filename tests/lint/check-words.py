#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""No note to self lands, and no function of libc that cannot be used safely."""

import re

import sources

NOTES = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX)\b")
# what to use instead
FUNCTIONS = {
    "strcpy": "g_strlcpy", "strcat": "g_strlcat", "stpcpy": "g_strlcpy", "sprintf": "g_snprintf",
    "vsprintf": "g_vsnprintf", "gets": "fgets", "system": "g_spawn", "popen": "g_spawn",
    "atoi": "g_ascii_string_to_signed", "atol": "g_ascii_string_to_signed", "atof": "g_ascii_strtod",
    "strtok": "g_strsplit", "mktemp": "g_mkstemp", "tmpnam": "g_mkstemp", "alloca": "g_autofree",
    "g_alloca": "g_autofree", "rand": "g_rand or RAND_bytes", "longjmp": "a GError",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(FUNCTIONS) + r")\s*\(")
GOTO = re.compile(r"^\s*goto\s+\w+\s*;", re.M)
NO_CODE = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"', re.S)


def blank(match):
    """The match as spaces, lines kept."""
    return re.sub(r"[^\n]", " ", match[0])


def main():
    findings, n = [], 0
    for name in sources.tracked():
        text = sources.text_of(name)
        if text is None or name.startswith(("tests/fuzz/corpus/", "tests/data/")):
            continue
        n += 1
        hits = [(m.start(), f"'{m[1]}': finish it or open an issue") for m in NOTES.finditer(text)]
        if name.endswith((".c", ".h")):
            code = NO_CODE.sub(blank, text)
            hits += [(m.start(), f"{m[1]}(): use {FUNCTIONS[m[1]]}") for m in CALL.finditer(code)]
            hits += [(m.start(), "goto: return early, g_autoptr frees") for m in GOTO.finditer(code)]
        for at, what in hits:
            findings.append(f"{name}:{text.count(chr(10), 0, at) + 1}: {what}")
    sources.finish(findings, f"{n} files")


main()
