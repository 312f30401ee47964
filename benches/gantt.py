"""Stages over time as an SVG: a bar from a stage's first to its last byte, ours above the paper's."""

from xml.sax.saxutils import escape

WIDTH, LEFT, BAR, GAP = 900, 150, 18, 6
INK, OURS, BUSY, THEIRS = "#222", "#9cc5e8", "#2f78b7", "#d9a066"


def write(path, ours, theirs):
    """`ours` and `theirs` are lists of name, first, last, and seconds of CPU or None."""
    end = max(last for _, _, last, _ in [*ours, *theirs])
    scale = (WIDTH - LEFT - 70) / end
    rows, y = [], 34
    for title, stages, colour in [
        ("Mallee: one pass, the stages at the same time (dark: processor time)", ours, OURS),
        ("The paper's way: each stage a file, then two copies", theirs, THEIRS),
    ]:
        rows.append(f'<text x="10" y="{y}" font-weight="bold">{escape(title)}</text>')
        y += 10
        for name, first, last, cpu in stages:
            x, width = LEFT + first * scale, max((last - first) * scale, 1)
            rows.append(f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
            rows.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
            if cpu:
                rows.append(f'<rect x="{x:.1f}" y="{y + BAR - 6}" width="{min(cpu * scale, width):.1f}" height="6" fill="{BUSY}"/>')
            rows.append(f'<text x="{x + width + 5:.1f}" y="{y + 14}">{last:.1f} s</text>')
            y += BAR + GAP
        y += 26
    height = y + 6
    rows += axis(end, scale, height - 22)
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="13" fill="{INK}">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(rows) + "\n</svg>\n"
    )
    print(f"\nstages over time: {path}")


def axis(end, scale, y):
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200) if end / step <= 12)
    ticks = range(0, int(end) + 1, step)
    line = f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + end * scale:.0f}" y2="{y}" stroke="{INK}"/>'
    return [line, *(f'<text x="{LEFT + tick * scale:.1f}" y="{y + 16}" text-anchor="middle">{tick} s</text>' for tick in ticks)]
