#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Every source, script and build file names its licence in its first lines."""

import sources

LINE = "SPDX-License-Identifier: GPL-2.0-or-later"
ENDINGS = (".c", ".h", ".S", ".py", ".sh", "meson.build", "meson_options.txt", ".clang-format")


def needs_line(name, text):
    return name.endswith(ENDINGS) or text.startswith("#!")


def main():
    findings, n = [], 0
    for name in sources.tracked():
        text = sources.text_of(name)
        if name.startswith("tests/fuzz/corpus/") or text is None or not needs_line(name, text):
            continue
        n += 1
        if LINE not in "\n".join(text.splitlines()[:5]):
            findings.append(f"{name}:1: no '{LINE}' in the first lines")
    sources.finish(findings, f"{n} files")


main()
