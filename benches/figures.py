#!/usr/bin/env python3
"""Tables and plots from what benches/compare.sh and benches/growth.sh recorded.

    benches/figures.py compare FIGURES.csv [FOLDER]
    benches/figures.py growth GROWTH.csv [FOLDER]

Prints tables in Markdown: medians, with the lowest and highest run behind them. Writes plots as SVG into FOLDER, where one is
given. Python's standard library only.
"""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 360, 70, 56, 40
COLOURS = ["#0b6e99", "#d9730d", "#6b8e23", "#8a4baf"]


def number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def read(path):
    """Values by (who, what, clients, depth) and column."""
    found = defaultdict(lambda: defaultdict(list))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            key = (row["who"], row["what"], int(row["clients"]), int(row["depth"]))
            for column, text in row.items():
                if number(text) is not None:
                    found[key][column].append(number(text))
    return found


def shown(values, digits=0):
    if not values:
        return "-"
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def ratios(found, ours, theirs, column):
    """The ratios within each run."""
    return [one / other for one, other in zip(found[ours][column], found[theirs][column])]


def table(head, rows):
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join("---" for _ in head) + " |")
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


class Plot:
    """A chart with a logarithmic upward axis."""

    def __init__(self, title, unit, low, high):
        self.parts, self.low, self.high = [], low, high
        self.text(WIDTH / 2, 22, title, size=15, anchor="middle")
        step = low
        while step <= high:
            y = self.y(step)
            self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
            self.text(LEFT - 6, y + 4, f"{step:,g}", anchor="end")
            step *= 10
        self.text(14, TOP - 8, unit, size=11)

    def y(self, value):
        from math import log10
        share = (log10(max(value, self.low)) - log10(self.low)) / (log10(self.high) - log10(self.low))
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def text(self, x, y, words, size=12, anchor="start", colour="#333"):
        words = words.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{words}</text>')

    def legend(self, names):
        for place, name in enumerate(names):
            x = LEFT + place * 150
            self.parts.append(f'<rect x="{x}" y="{HEIGHT - 18}" width="11" height="11" fill="{COLOURS[place]}"/>')
            self.text(x + 16, HEIGHT - 8, name)

    def bars(self, groups, series):
        """series: [(name, [values of each group])]; a value is the runs' list."""
        wide = (WIDTH - LEFT - 10) / len(groups)
        each = wide * 0.8 / len(series)
        for place, (_, values) in enumerate(series):
            for group, runs in enumerate(values):
                if not runs:
                    continue
                x = LEFT + group * wide + wide * 0.1 + place * each
                y, middle = self.y(statistics.median(runs)), x + each / 2
                tall = HEIGHT - BOTTOM - y
                self.parts.append(
                    f'<rect x="{x:.1f}" y="{y:.1f}" width="{each - 2:.1f}" height="{tall:.1f}" fill="{COLOURS[place]}"/>')
                self.spread(middle, runs)
                self.text(middle, min(y, self.y(max(runs))) - 4, f"{statistics.median(runs):,.0f}", size=10, anchor="middle")
        for group, name in enumerate(groups):
            self.text(LEFT + (group + 0.5) * wide, HEIGHT - BOTTOM + 16, str(name), anchor="middle")
        self.legend([name for name, _ in series])

    def lines(self, places, series):
        wide = (WIDTH - LEFT - 40) / max(len(places) - 1, 1)
        x = lambda place: LEFT + 15 + place * wide
        for index, (_, values) in enumerate(series):
            points = [(x(place), self.y(statistics.median(runs))) for place, runs in enumerate(values) if runs]
            path = " ".join(f"{one:.1f},{other:.1f}" for one, other in points)
            self.parts.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[index]}" stroke-width="2"/>')
            for place, runs in enumerate(values):
                if runs:
                    y = self.y(statistics.median(runs))
                    self.parts.append(f'<circle cx="{x(place):.1f}" cy="{y:.1f}" r="3" fill="{COLOURS[index]}"/>')
                    self.spread(x(place), runs)
        for place, name in enumerate(places):
            self.text(x(place), HEIGHT - BOTTOM + 16, f"{name:,}", anchor="middle")
        self.legend([name for name, _ in series])

    def spread(self, x, runs):
        low, high = self.y(min(runs)), self.y(max(runs))
        self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="#222"/>')

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif">'
        path.write_text("\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *self.parts, "</svg>"]) + "\n")


CLIENTS = [1, 8, 64, 256]

LEAST, MOST = "at least", "at most"
# What is asked of the bank: name, its measurement, the other's, and what the ratio is to be.
RATIOS = [
    ("money, 1 terminal / pgbench TPC-B", ("bank", "money", 1, 1), ("postgresql", "tpcb", 1, 1), LEAST, 3),
    ("money, 8 terminals / pgbench TPC-B", ("bank", "money", 8, 1), ("postgresql", "tpcb", 8, 1), LEAST, None),
    ("money, 64 terminals / pgbench TPC-B", ("bank", "money", 64, 1), ("postgresql", "tpcb", 64, 1), LEAST, 8),
    ("money, 256 terminals / pgbench TPC-B", ("bank", "money", 256, 1), ("postgresql", "tpcb", 256, 1), LEAST, 12),
    ("money, 64 terminals / pgbench simple-update", ("bank", "money", 64, 1), ("postgresql", "simple-update", 64, 1), LEAST, None),
    ("money, 256 terminals / pgbench simple-update", ("bank", "money", 256, 1), ("postgresql", "simple-update", 256, 1), LEAST, None),
    ("random keys, 64 terminals / pgbench TPC-B", ("bank", "money-random-keys", 64, 1), ("postgresql", "tpcb", 64, 1), LEAST, None),
    ("random keys, 256 terminals / pgbench TPC-B", ("bank", "money-random-keys", 256, 1), ("postgresql", "tpcb", 256, 1), LEAST, None),
    ("their p99, 64", ("bank", "money", 64, 1), ("postgresql", "tpcb", 64, 1), MOST, 1),
    ("their p99, 256", ("bank", "money", 256, 1), ("postgresql", "tpcb", 256, 1), MOST, 1),
    ("money, 1 terminal / the same rows in a plain rusqlite loop, one a commit", ("bank", "money", 1, 1), ("ceiling", "sqlite", 1, 1), LEAST, None),
    ("money, 8 terminals / plain loop, as many a commit as really were", ("bank", "money", 8, 1), ("ceiling", "sqlite", 8, 1), LEAST, 0.8),
    ("money, 64 terminals / plain loop, as many a commit as really were", ("bank", "money", 64, 1), ("ceiling", "sqlite", 64, 1), LEAST, 0.8),
    ("money, 256 terminals / plain loop, as many a commit as really were", ("bank", "money", 256, 1), ("ceiling", "sqlite", 256, 1), LEAST, 0.8),
    ("money, 256 terminals, 8 in flight each / plain loop, as many a commit as really were", ("bank", "money", 256, 8), ("ceiling", "sqlite", 256, 8), LEAST, 0.8),
    ("money, 64 terminals / plain loop, 64 a commit", ("bank", "money", 64, 1), ("ceiling", "sqlite-most", 64, 1), LEAST, None),
    ("money, 256 terminals / plain loop, 256 a commit", ("bank", "money", 256, 1), ("ceiling", "sqlite-most", 256, 1), LEAST, None),
    ("money, 256 terminals, 8 in flight each / plain loop, 1,024 a commit", ("bank", "money", 256, 8), ("ceiling", "sqlite-most", 256, 8), LEAST, None),
    ("the bank without a network, 8 customers / plain loop, as many a commit as really were", ("ceiling", "inside", 8, 1), ("ceiling", "sqlite-inside", 8, 1), LEAST, None),
    ("the bank without a network, 64 customers / plain loop, as many a commit as really were", ("ceiling", "inside", 64, 1), ("ceiling", "sqlite-inside", 64, 1), LEAST, None),
    ("the bank without a network, 256 customers / plain loop, as many a commit as really were", ("ceiling", "inside", 256, 1), ("ceiling", "sqlite-inside", 256, 1), LEAST, None),
    ("the bank without a network, 256 customers, 8 at once each / plain loop, as many a commit as really were", ("ceiling", "inside", 256, 8), ("ceiling", "sqlite-inside", 256, 8), LEAST, None),
    ("random keys, 64 terminals / plain loop with them", ("bank", "money-random-keys", 64, 1), ("ceiling", "sqlite-random-keys", 64, 1), LEAST, None),
    ("money, 256 terminals, 8 in flight each / TLS echo, 256 connections", ("bank", "money", 256, 8), ("ceiling", "echo", 256, 1), LEAST, 0.35),
    ("money, 256 terminals, 8 in flight each / TLS echo, 8 in flight each", ("bank", "money", 256, 8), ("ceiling", "echo", 256, 8), LEAST, None),
    ("balance, 64 terminals / TLS echo, 64 connections", ("bank", "balance", 64, 1), ("ceiling", "echo", 64, 1), LEAST, 0.6),
    ("log-ins alone / bare argon2id", ("bank", "logins", 16, 1), ("ceiling", "argon2", 2, 1), LEAST, 0.9),
    ("log-ins beside customers at a fifth of capacity / bare argon2id", ("bank", "logins-beside-customers", 16, 1), ("ceiling", "argon2", 2, 1), LEAST, 0.6),
    ("their customers' p99 / the same without log-ins", ("bank", "money-at-a-fifth-beside-logins", 64, 1), ("bank", "money-at-a-fifth", 64, 1), MOST, 2),
    ("their customers' p99 / the same beside bare argon2id of the idle class", ("bank", "money-at-a-fifth-beside-logins", 64, 1),
     ("bank", "money-at-a-fifth-beside-argon2", 64, 1), MOST, None),
    ("handshakes / bare tokio-rustls acceptor", ("bank", "handshakes", 16, 1), ("ceiling", "handshakes", 16, 1), LEAST, 0.8),
]


def compare(path, folder):
    found = read(path)
    rows = []
    for key in sorted(found):
        who, what, clients, depth = key
        column = found[key]
        milliseconds = lambda name: shown([value / 1000 for value in column[name]], 2)
        rows.append([who, what, str(clients), str(depth), shown(column["per_second"]), milliseconds("p50_us"), milliseconds("p99_us"),
                     shown(column["server_us"], 1), shown(column["orders_a_commit"], 1)])
    table(["who", "what", "clients", "in flight each", "per second", "p50 ms", "p99 ms", "server us each", "orders a commit"], rows)
    rows = []
    for name, ours, theirs, side, bound in RATIOS:
        values = ratios(found, ours, theirs, "p99_us" if "p99" in name else "per_second")
        if values:
            value = statistics.median(values)
            holds = bound is not None and (value >= bound if side == LEAST else value <= bound)
            held = "" if bound is None else ("reached" if holds else "MISSED")
            rows.append([name, shown(values, 2), "-" if bound is None else f"{side} {bound}", held])
    table(["ratio of", "median", "wanted", ""], rows)
    if folder:
        column = lambda who, what, name: [found[(who, what, clients, 1)][name] for clients in CLIENTS]
        plot = Plot("Durable transactions a second over TLS", "a second", 100, 100_000)
        plot.bars([f"{clients} clients" for clients in CLIENTS],
                  [("bank_server", column("bank", "money", "per_second")), ("pgbench TPC-B", column("postgresql", "tpcb", "per_second"))])
        plot.write(folder / "throughput.svg")
        plot = Plot("99 of 100 answers within", "ms", 0.1, 1000)
        in_ms = lambda runs: [[value / 1000 for value in run] for run in runs]
        plot.bars([f"{clients} clients" for clients in CLIENTS],
                  [("bank_server", in_ms(column("bank", "money", "p99_us"))), ("pgbench TPC-B", in_ms(column("postgresql", "tpcb", "p99_us")))])
        plot.write(folder / "p99.svg")


def growth(path, folder):
    runs = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with open(path, newline="") as file:
        for row in csv.DictReader(file):
            for column in ("value", "p99_us"):
                if number(row[column]) is not None:
                    runs[(row["what"], row["unit"])][int(row["size"])][column].append(number(row[column]))
    for (what, unit), sizes in runs.items():
        print(f"**{what}**\n")
        places = sorted(sizes)
        rows = [[f"{size:,}", shown(sizes[size]["value"], 0 if unit == "a second" else 2), shown([v / 1000 for v in sizes[size]["p99_us"]], 2)]
                for size in places]
        table(["size", unit, "p99 ms"], rows)
        values = [sizes[size]["value"] for size in places]
        # Nothing has no place on a logarithmic axis.
        if folder and len(places) > 1 and min(min(runs) for runs in values) > 0:
            low = 10.0 ** (len(str(int(min(min(v) for v in values)))) - 1)
            high = low * 10
            while high < max(max(v) for v in values):
                high *= 10
            plot = Plot(what, unit, low, high)
            plot.lines(places, [("bank_server", values)])
            plot.write(folder / (what.replace(" ", "-").replace(",", "") + ".svg"))


def main():
    if len(sys.argv) < 3 or sys.argv[1] not in ("compare", "growth"):
        sys.exit(__doc__)
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    (compare if sys.argv[1] == "compare" else growth)(sys.argv[2], folder)


if __name__ == "__main__":
    main()
