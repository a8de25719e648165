# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo's picture: demand, forecast band, capacity, grants and denials over time, as SVG.

Four panels: vCPUs and memory, with Foresee and with the reactive rule alone, on one scale.  Colours keep their
contrast in grey and for the colour-blind; each line is also named in the legend.
"""

from xml.sax.saxutils import escape

WIDTH, PANEL, GAP, LEFT, TOP = 1240, 170, 46, 70, 92
MIB = 1 << 20
DEMAND, CAPACITY, BAND, MEDIAN, GRANT, DENIAL = "#b3261e", "#1a4e8a", "#f3c567", "#8a6100", "#1b7f4d", "#000000"


class Panel:
    """One plot: seconds to the right, an amount upwards."""

    def __init__(self, out, top, title, unit, t0, t1, highest):
        self.out, self.top, self.t0, self.t1, self.highest = out, top, t0, t1, highest
        width = WIDTH - LEFT - 20
        out.append(f'<text x="{LEFT}" y="{top - 8}" class="title">{escape(title)}</text>')
        out.append(f'<rect x="{LEFT}" y="{top}" width="{width}" height="{PANEL}" class="frame"/>')
        for share in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self.y(highest * share)
            out.append(f'<line x1="{LEFT}" x2="{LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            out.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">'
                       f'{highest * share:.{0 if highest > 20 else 1}f}</text>')
        out.append(f'<text x="14" y="{top + PANEL / 2}" class="tick" transform="rotate(-90 14 {top + PANEL / 2})" '
                   f'text-anchor="middle">{escape(unit)}</text>')
        step = max(10, int((t1 - t0) / 12 / 10 + 1) * 10)
        for s in range(0, int(t1 - t0) + 1, step):
            out.append(f'<text x="{self.x(t0 + s):.1f}" y="{top + PANEL + 15}" class="tick" '
                       f'text-anchor="middle">{s} s</text>')

    def x(self, t):
        return LEFT + (WIDTH - LEFT - 20) * (t - self.t0) / max(1e-9, self.t1 - self.t0)

    def y(self, v):
        return self.top + PANEL * (1 - min(max(v, 0), self.highest) / self.highest)

    def steps(self, points, css):
        path, last = [], None
        for t, v in points:
            x, y = self.x(t), self.y(v)
            path.append(f"M{x:.1f} {y:.1f}" if last is None else f"H{x:.1f}V{y:.1f}")
            last = y
        self.out.append(f'<path d="{"".join(path)}" class="{css}"/>')

    def band(self, low, high):
        if len(low) < 2:
            return
        there = " ".join(f"{self.x(t):.1f},{self.y(v):.1f}" for t, v in high)
        back = " ".join(f"{self.x(t):.1f},{self.y(v):.1f}" for t, v in reversed(low))
        self.out.append(f'<polygon points="{there} {back}" class="band"/>')
        self.steps(low, "median")

    def mark(self, t, css, text):
        x = self.x(t)
        self.out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.top}" y2="{self.top + PANEL}" class="{css}"/>')
        if text:
            self.out.append(f'<text x="{x + 3:.1f}" y="{self.top + 12}" class="tick {css}text">{escape(text)}</text>')


def _panel(out, top, title, unit, reports, events, teller, resource, highest, extra=()):
    scale = 1 if resource == "vcpu" else MIB
    have, want = ("online", "demand_vcpus") if resource == "vcpu" else ("mem_total_bytes", "demand_mem_bytes")
    times = [teller.at(r["host_ns"]) for r in reports]
    p = Panel(out, top, title, unit, times[0], times[-1], highest)
    forecasts = [(teller.at(e["host_ns"]), e["data"]) for e in events if e["event"] == "FORECAST" and
                 e["data"]["valid"] and times[0] <= teller.at(e["host_ns"]) <= times[-1]]
    # The forecast counts what the guest's kernel keeps for itself; the picture shows what the guest sees.
    hidden = 0
    if resource == "mem":
        hidden = min((d["mem"]["demand"] - r["demand_mem_bytes"] for r in reports[:1] for _, d in forecasts[:1]),
                     default=0)
        hidden = max(0, hidden)
    p.band([(t, (d[resource]["p50"] - hidden) / scale) for t, d in forecasts],
           [(t, (d[resource]["p95"] - hidden) / scale) for t, d in forecasts])
    p.steps([(t, r[have] / scale) for t, r in zip(times, reports)], "capacity")
    p.steps([(t, r[want] / scale) for t, r in zip(times, reports)], "demand")
    for e in events:
        t = teller.at(e["host_ns"])
        if times[0] <= t <= times[-1] and e["event"] == "GRANT":
            p.mark(t, "grant", "")
    for t, text in extra:
        if times[0] <= t <= times[-1]:
            p.mark(t, "denial", text)
    return p


def timeline(path, demo):
    """Writes the picture of a finished Demo to @path."""
    teller, out = demo.teller, []
    tampered = demo.guest.truth.reports.items[demo.tamper_first:]
    runs = [("with Foresee", demo.runs["foresee"].reports, demo.runs["foresee"].events, ()),
            ("reactive rule alone, same schedule", demo.runs["reactive"].reports, demo.runs["reactive"].events, ()),
            ("after tampering", tampered, demo.events.waiter.items,
             [(d["at"], "denied: " + d["reason"]) for d in demo.denied])]
    most = {"vcpu": max(max(r["online"], r["demand_vcpus"]) for _, rs, _, _ in runs for r in rs) + 1,
            "mem": max(max(r["mem_total_bytes"], r["demand_mem_bytes"]) for _, rs, _, _ in runs for r in rs) / MIB * 1.1}
    top = TOP
    for name, reports, events, extra in runs:
        for resource, unit in (("vcpu", "vCPUs"), ("mem", "MiB in the guest")):
            title = f"{'vCPUs' if resource == 'vcpu' else 'Memory'} {name}"
            _panel(out, top, title, unit, reports, events, teller, resource, most[resource], extra)
            top += PANEL + GAP
    legend = [("demand", "demand"), ("capacity", "capacity online"), ("median", "forecast P50 to P95 (band)"),
              ("grant", "grant by the attestation manager"), ("denial", "growth denied")]
    head = []
    x = LEFT
    for css, text in legend:
        head.append(f'<line x1="{x}" x2="{x + 26}" y1="52" y2="52" class="{css}"/>'
                    f'<text x="{x + 32}" y="56" class="tick">{escape(text)}</text>')
        x += 48 + 7 * len(text)
    f, r = demo.runs["foresee"], demo.runs["reactive"]
    subtitle = (f"under-provisioned {f.under_s:.1f} s with Foresee, {r.under_s:.1f} s reactive; "
                f"slack {f.slack:.2f} and {r.slack:.2f} of demand")
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
           'font-family="sans-serif">',
           "<style>.title{font-size:14px;font-weight:bold}.tick{font-size:11px;fill:#333}"
           ".frame{fill:none;stroke:#888}.grid{stroke:#ddd}"
           f".demand{{fill:none;stroke:{DEMAND};stroke-width:1.6}}.capacity{{fill:none;stroke:{CAPACITY};stroke-width:2}}"
           f".band{{fill:{BAND};opacity:.55}}.median{{fill:none;stroke:{MEDIAN};stroke-dasharray:4 3}}"
           f".grant{{stroke:{GRANT};stroke-width:1.4}}.denial{{stroke:{DENIAL};stroke-width:2;stroke-dasharray:2 3}}"
           "</style>",
           f'<rect width="{WIDTH}" height="{top}" fill="#fff"/>',
           f'<text x="{LEFT}" y="26" font-size="17" font-weight="bold">Foresee: capacity before demand</text>',
           f'<text x="{LEFT + 330}" y="26" class="tick">{escape(subtitle)}</text>', *head, *out, "</svg>"]
    path.write_text("\n".join(svg) + "\n", encoding="utf-8")
