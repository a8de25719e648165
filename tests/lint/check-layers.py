#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Each folder includes only headers of the layers that docs/architecture.md allows it."""

import re

import sources

# folder -> (folders of ours, prefixes of libraries) that it may include, beside itself, libc and Linux
GLIB = ("glib", "gio", "gmodule")
LAYERS = {
    "common": ((), GLIB + ("jansson.h", "openssl/")),
    "qemu-plugin": (("common/fore-page.h",), ("glib.h", "gmodule.h", "qemu-plugin.h")),
    "profile": (("common",), GLIB + ("sqlcipher/",)),
    "forecast": (("common", "profile"), GLIB + ("cblas.h", "jansson.h")),
    # pure: arrow structs and errors only, no I/O library
    "control": (("common/fore-flow.h", "common/fore-error.h"), ("glib.h",)),
    "vtpm/tpm": (("common",), GLIB + ("tss2/",)),
    "vtpm/attest": (("common",), GLIB + ("tss2/tss2_mu.h", "tss2/tss2_tpm2_types.h", "jansson.h",
                                          "jose/", "openssl/")),
    "vtpm/host": (("common", "vtpm/tpm", "vtpm/attest"), GLIB + ("tss2/", "jansson.h", "openssl/")),
    "vtpm/pam": (("common", "vtpm/tpm", "vtpm/attest", "vtpm/host"),
                 GLIB + ("jansson.h", "openssl/", "tss2/")),
    "vtpm/attester": (("common", "vtpm/tpm", "vtpm/attest", "vtpm/host"),
                      GLIB + ("jansson.h", "openssl/", "tss2/")),
    "guest-agent": (("common", "vtpm/tpm", "vtpm/attest"),
                    GLIB + ("jansson.h", "openssl/", "tss2/", "foresee/sea.h")),
    # runs in the guest, depends on nothing of ours
    "guest-image": ((), ()),
    # libsoup needs libsqlite3 and may not meet SQLCipher in one process: see FACTS in docs/decisions
    "qmp-agent": (("common", "profile", "forecast", "control", "vtpm", "qemu-plugin"),
                  GLIB + ("jansson.h", "openssl/", "libvirt/", "libsoup/")),
}
ANY = ("glib", "gio", "gmodule", "jansson.h", "openssl/", "tss2/", "sqlcipher/", "cblas.h", "lapack", "jose/",
       "libvirt/", "libsoup/", "microhttpd.h", "curl/", "netlink/", "libnl", "nbdkit", "libnbd.h",
       "qemu-plugin.h", "foresee/", "p11-kit", "sqlite3.h", "json-glib", "uv.h", "event2/", "pthread.h")
# pure cores read no clock and do no I/O; math, strings and assertions are fine
PURE = {"control": ("time.h", "sys/time.h", "unistd.h", "fcntl.h", "sys/socket.h", "pthread.h", "stdio.h"),
        "vtpm/attest": ("time.h", "sys/time.h", "fcntl.h", "sys/socket.h", "pthread.h")}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.M)


def folder_of(name):
    parts = name.split("/")
    return "/".join(parts[:2]) if parts[0] == "vtpm" else parts[0]


def is_within(path, layers):
    return any(path == layer or path.startswith(layer + "/") for layer in layers)


def why_not(name, folder, bracket, path):
    """None when the file may include the path, else the reason."""
    ours, libraries = LAYERS[folder]
    if ".." in path.split("/"):
        return "relative path; name it from the root"
    if bracket == '"':
        if folder == "guest-image" or is_within(path, (folder,) + ours):
            return None if folder != "guest-image" or "/" not in path else "guest-image is on its own"
        return f"{folder}/ may see {', '.join(ours) or 'no other folder'}"
    if path in PURE.get(folder, ()):
        return f"{folder}/ is pure: no clock, no I/O, no threads"
    if path.startswith(ANY) and not path.startswith(libraries) and path != "pthread.h":
        return f"{folder}/ may see the libraries {', '.join(libraries) or '(none)'}"
    if (sources.ROOT / folder / path).exists():
        return 'a header of ours; use "..."'
    return None


def main():
    findings, n = [], 0
    for name in sources.c_files():
        folder = folder_of(name)
        if folder == "tests":
            continue
        n += 1
        if folder not in LAYERS:
            findings.append(f"{name}: folder '{folder}' is in no layer; add it to check-layers.py")
            continue
        text = sources.text_of(name) or ""
        for match in INCLUDE.finditer(text):
            reason = why_not(name, folder, match[1], match[2])
            if reason:
                line = text.count("\n", 0, match.start()) + 1
                findings.append(f"{name}:{line}: includes {match[2]}: {reason}")
    sources.finish(findings, f"{n} files")


main()
