"""metrics.csv of a run -> its curve as an SVG: python tools/figures/curve.py runs/m30k/metrics.csv curve.svg"""

import csv
import sys
from pathlib import Path

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 340, 56, 56, 36, 48
BLEU, LOSS, INK = "#0b6e99", "#b8860b", "#444444"


def read(path: Path) -> tuple[list[tuple[float, float]], list[tuple[float, float]], float]:
    """(minutes, BLEU) of each validation, (minutes, loss) of training, and the last minute."""
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    minutes = [float(row["seconds"]) / 60 for row in rows]
    bleu = [(minute, float(row["bleu"])) for minute, row in zip(minutes, rows, strict=True) if row["bleu"]]
    loss = [(minute, float(row["train_loss"])) for minute, row in zip(minutes, rows, strict=True) if row["train_loss"]]
    return bleu, loss, max(minutes)


def draw(bleu: list[tuple[float, float]], loss: list[tuple[float, float]], last: float) -> str:
    most_bleu = 10 * (max(value for _, value in bleu) // 10 + 1)
    most_loss = max(value for _, value in loss) // 1 + 1

    def x(minute: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * minute / last

    def y(value: float, most: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / most

    def line(points: list[tuple[float, float]], most: float, colour: str) -> str:
        path = " ".join(f"{x(minute):.1f},{y(value, most):.1f}" for minute, value in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round"/>'

    def text(at: float, height: float, words: str, colour: str = INK, anchor: str = "middle") -> str:
        return f'<text x="{at:.1f}" y="{height:.1f}" fill="{colour}" text-anchor="{anchor}">{words}</text>'

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tick in range(0, int(most_bleu) + 1, 10):
        height = y(tick, most_bleu)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}" stroke="#e4e4e4"/>')
        parts.append(text(LEFT - 8, height + 4, str(tick), BLEU, "end"))
    for tick in range(0, int(most_loss) + 1, max(1, int(most_loss) // 4)):
        parts.append(text(WIDTH - RIGHT + 8, y(tick, most_loss) + 4, str(tick), LOSS, "start"))
    for tick in range(0, int(last) + 1, max(1, round(last / 8))):
        parts.append(text(x(tick), HEIGHT - BOTTOM + 18, str(tick)))
    parts.append(text(WIDTH / 2, HEIGHT - 10, "minutes"))
    parts.append(text(LEFT, 20, "validation BLEU", BLEU, "start"))
    parts.append(text(WIDTH - RIGHT, 20, "training loss, nats a token", LOSS, "end"))
    parts += [line(loss, most_loss, LOSS), line(bleu, most_bleu, BLEU)]
    for minute, value in bleu:
        parts.append(f'<circle cx="{x(minute):.1f}" cy="{y(value, most_bleu):.1f}" r="3.5" fill="{BLEU}"/>')
    best = max(bleu, key=lambda point: point[1])
    parts.append(text(x(best[0]), y(best[1], most_bleu) + 20, f"{best[1]:.2f}", BLEU, "end"))
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    source, destination = map(Path, sys.argv[1:])
    destination.write_text(draw(*read(source)), encoding="utf-8")
