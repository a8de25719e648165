# SPDX-License-Identifier: GPL-2.0-or-later
"""What the end-to-end tests share: claims, TAP, and for a guest alone one boot whose snapshot each claim restores.

A test program defines claims and calls main():

    @claim("hot-plugged-vcpu-stays-offline-without-a-grant")
    def _(bench):
        guest = bench.guest()
        ...

A claim holds when its function returns; it fails when that raises, and is skipped when that raises Skip, which
names what is missing.  Output is TAP.
"""

import os
import pathlib
import sys
import tempfile
import traceback

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools" / "lib"))
import forelab  # noqa: E402

BUILD = pathlib.Path(os.environ.get("FORE_BUILD", ROOT / "build"))
BOOT_LIMIT_S = 60.0

_claims = []


class Skip(Exception):
    """What is missing on this machine."""


def claim(name):
    def keep(function):
        _claims.append((name, function))
        return function
    return keep


def check(condition, message):
    if not condition:
        raise AssertionError(message)


class Bench:
    """The Lab of one test program, the boot and its snapshot."""

    def __init__(self, lab, image, **options):
        self.lab = lab
        self.options = {"kernel": image / "vmlinuz", "initrd": image / "initramfs.cpio.gz", **options}
        self.snapshot = lab.directory / "snapshot"
        self.uuid = None
        self.boot_s = None
        self._count = 0
        self._current = None

    def _plugin(self, name, uuid):
        library = os.environ.get("FORE_PLUGIN", str(BUILD / "qemu-plugin/libforesee-profiler.so"))
        self.page = self.lab.directory / f"{name}.page"
        return forelab.plugin_option(self.page, uuid, library)

    def boot(self):
        """The one boot: measured, saved, ended."""
        guest = self.lab.guest("boot", **self.options)
        guest.options["plugin"] = self._plugin("boot", guest.uuid)
        guest.start()
        self.boot_s = guest.wait_boot(BOOT_LIMIT_S)
        self.uuid = guest.uuid
        guest.save(self.snapshot)
        guest.stop()

    def guest(self):
        """A running guest, as it was right after the boot; it ends with the claim."""
        self._count += 1
        name = f"g{self._count}"
        self._current = self.lab.restore(self.snapshot, name, self.uuid, plugin=self._plugin(name, self.uuid),
                                         **self.options)
        self._current.truth.wait(lambda r: True, 20, "report after the restore", after=0)
        return self._current

    def end_guest(self):
        if self._current:
            self._current.stop(grace_s=1.0)
            self._current = None


def run_claim(bench, number, path, function):
    """One line of TAP; True unless the claim failed."""
    try:
        function(bench)
    except Skip as e:
        print(f"ok {number} {path} # SKIP {e}", flush=True)
        return True
    except Exception:  # whatever it is: the claim was not shown
        for line in traceback.format_exc().splitlines():
            print(f"# {line}", flush=True)
        print(f"not ok {number} {path}", flush=True)
        return False
    finally:
        bench.end_guest()
    print(f"ok {number} {path}", flush=True)
    return True


def run_claims(bench, topic):
    """All claims in the order of their definition; the exit status."""
    good = [run_claim(bench, i + 1, f"/e2e/{topic}/{name}", function) for i, (name, function) in enumerate(_claims)]
    return 0 if all(good) else 1


def plan():
    print(f"1..{len(_claims)}", flush=True)


def bail_out(what, error):
    print(f"Bail out! {what}: {' / '.join(str(error).splitlines())}", flush=True)
    return 1


def main(topic, image, **options):
    """Boots, runs all claims; the exit status."""
    plan()
    with tempfile.TemporaryDirectory(prefix="fore-e2e-") as directory, forelab.Lab(directory) as lab:
        bench = Bench(lab, image, **options)
        try:
            bench.boot()
        except forelab.LabError as e:
            return bail_out("the guest does not boot", e)
        print(f"# booted in {bench.boot_s:.1f} s", flush=True)
        return run_claims(bench, topic)


def skip_all(reason):
    print(f"1..0 # SKIP {reason}", flush=True)
    return 0
