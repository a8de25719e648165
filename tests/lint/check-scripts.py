#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Scripts at least parse: Python compiles, shell passes sh -n or bash -n."""

import subprocess

import sources


def main():
    findings, n = [], 0
    for name in sources.tracked():
        text = sources.text_of(name)
        if text is None or name.startswith("tests/fuzz/corpus/"):
            continue
        first = text.splitlines()[0] if text else ""
        if name.endswith(".py") or (first.startswith("#!") and "python" in first):
            n += 1
            try:
                compile(text, name, "exec")
            except SyntaxError as error:
                findings.append(f"{name}:{error.lineno}: {error.msg}")
            if first.startswith("#!") and first != "#!/usr/bin/python3":
                findings.append(f"{name}:1: '{first}': a user's PATH may hold another python3")
        elif first.startswith("#!") and first.rstrip().endswith("sh"):
            n += 1
            shell = "bash" if "bash" in first else "sh"
            done = subprocess.run([shell, "-n", name], cwd=sources.ROOT, capture_output=True, text=True,
                                  check=False)
            if done.returncode != 0:
                findings.append(done.stderr.strip())
    sources.finish(findings, f"{n} scripts")


main()
