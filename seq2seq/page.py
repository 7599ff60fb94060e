"""Floor 2: a comparison as one HTML page that needs nothing else: tables, curves as SVG, word differences."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from string import Template

from seq2seq.comparison import Bucket, System, Verdict
from seq2seq.data.text import runs

COLOURS = ("#0b6e99", "#b45309", "#4d7c0f", "#9d174d", "#6d28d9", "#525252")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 240, 44, 28, 12


@dataclass(frozen=True)
class Curve:
    """BLEU of a system's validations: (step, BLEU)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Sentence:
    """One sentence of the test set, and each system's translation with its chrF++."""

    number: int
    source: str
    reference: str
    translations: Sequence[str]
    scores: Sequence[float]


@dataclass(frozen=True)
class Comparison:
    """All that the page tells."""

    test_set: str
    test: str
    systems: Sequence[System]
    verdicts: Sequence[Verdict]
    wins: Sequence[tuple[int, int, int]]
    """Of each system but the first: sentences that are better, the same, worse."""
    buckets: Sequence[Bucket]
    counted: str
    """What their lengths are in: words or characters."""
    better: Sequence[Sentence]
    """Where the last system gains most over the first."""
    worse: Sequence[Sentence]
    curves: Sequence[Curve]


def page(comparison: Comparison) -> str:
    """The page."""
    names = [system.name for system in comparison.systems]
    parts = [_scores(comparison, names), _wins(comparison, names), _lengths(comparison, names)]
    if comparison.curves:
        parts.append(_section("Training", _chart(comparison.curves) + _legend([curve.name for curve in comparison.curves])))
    for title, sentences in (("gains", comparison.better), ("loses", comparison.worse)):
        if sentences:
            body = "".join(_sentence(sentence, names) for sentence in sentences)
            parts.append(_section(f"Where {escape(names[-1])} {title} most over {escape(names[0])}", body))
    return _PAGE.substitute(title=escape(comparison.test_set), body="\n".join(parts))


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{head}</th>" for head in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _scores(comparison: Comparison, names: Sequence[str]) -> str:
    rows = []
    for number, name in enumerate(names):
        cells = [f"{_swatch(number)}{escape(name)}"]
        for verdict in comparison.verdicts:
            of = verdict.systems[number]
            chance = "" if of.p_value is None else f"<small>p = {of.p_value:.4f}</small>"
            cells.append(f"<b>{of.value:.2f}</b> <small>{of.low:.2f} to {of.high:.2f}</small> {chance}")
        rows.append(cells)
    signatures = "".join(f"<li><code>{escape(v.metric)} {escape(v.signature)}</code></li>" for v in comparison.verdicts)
    said = f"<p>95 % intervals by bootstrap. p by {comparison.test} against {escape(names[0])}: below 0.05 the difference is hardly chance.</p>"
    return _section(
        "Scores", _table(["system", *(v.metric for v in comparison.verdicts)], rows) + said + f"<ul>{signatures}</ul>"
    )


def _wins(comparison: Comparison, names: Sequence[str]) -> str:
    rows = [[escape(name), *(f"{count:,}" for count in counts)] for name, counts in zip(names[1:], comparison.wins, strict=True)]
    return _section(f"Sentences beside {escape(names[0])}, by chrF++", _table(["system", "better", "the same", "worse"], rows))


def _lengths(comparison: Comparison, names: Sequence[str]) -> str:
    rows = [
        [f"{b.shortest} to {b.longest}", f"{b.sentences:,}", *(f"{score:.2f}" for score in b.scores)] for b in comparison.buckets
    ]
    return _section("BLEU by length of the reference", _table([comparison.counted, "sentences", *map(escape, names)], rows))


def _sentence(sentence: Sentence, names: Sequence[str]) -> str:
    rows = [("source", escape(sentence.source))] if sentence.source else []
    rows.append(("reference", escape(sentence.reference)))
    for number, (name, text) in enumerate(zip(names, sentence.translations, strict=True)):
        said = f"{_swatch(number)}{escape(name)} <small>{sentence.scores[number]:.1f}</small>"
        rows.append((said, differences(sentence.reference, text)))
    body = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows)
    return f"<article><h3>{sentence.number}</h3><dl>{body}</dl></article>"


def differences(reference: str, translation: str) -> str:
    """The translation as HTML, with words that are not in the reference at their place marked."""
    ours, theirs = runs(translation), runs(reference)
    marked = []
    for kind, start, stop, _, _ in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        text = escape("".join(ours[start:stop]))
        marked.append(text if kind == "equal" or not text.strip() else f"<mark>{text}</mark>")
    return "".join(marked)


def _swatch(number: int) -> str:
    return f'<i style="background:{COLOURS[number % len(COLOURS)]}"></i>'


def _legend(names: Sequence[str]) -> str:
    return "<p>" + " &nbsp; ".join(_swatch(number) + escape(name) for number, name in enumerate(names)) + "</p>"


def _chart(curves: Sequence[Curve]) -> str:
    """Validation BLEU over steps."""
    last = max(step for curve in curves for step, _ in curve.points) or 1
    scale = _scale([bleu for curve in curves for _, bleu in curve.points])

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * step / last

    def y(bleu: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (bleu - scale[0]) / (scale[-1] - scale[0])

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="validation BLEU by step">']
    for tick in scale:
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" class="grid"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick}</text>')
    for part in range(5):
        step = last * part / 4
        anchor = "end" if part == 4 else "middle"
        parts.append(f'<text x="{x(step):.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{step:,.0f}</text>')
    for number, curve in enumerate(curves):
        colour, path = COLOURS[number % len(COLOURS)], " ".join(f"{x(step):.1f},{y(bleu):.1f}" for step, bleu in curve.points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(step):.1f}" cy="{y(bleu):.1f}" r="3" fill="{colour}"/>' for step, bleu in curve.points]
    return "".join([*parts, "</svg>"])


def _scale(values: Sequence[float]) -> range:
    """Round numbers, a few of them, from below all values to above them."""
    step = next((step for step in (1, 2, 5) if max(values) - min(values) <= 6 * step), 10)
    return range(int(min(values) // step) * step, int(max(values) // step + 1) * step + 1, step)


_PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="seq2seq-compare"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --line: #d1d9e0; --mark: #ffe8a3; --page: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --mark: #5a4a00; --page: #0d1117; } }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; } h3 { font-size: 0.85rem; color: var(--soft); margin: 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 0.3rem 1.2rem 0.3rem 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
th, small, dt, li, p { color: var(--soft); font-weight: normal; } li, p { font-size: 0.85rem; } ul { padding-left: 1.2rem; }
article { border-top: 1px solid var(--line); padding: 0.8rem 0; } dl { margin: 0.2rem 0 0; display: grid; grid-template-columns: minmax(7rem, 12rem) 1fr; gap: 0.2rem 1rem; }
dd { margin: 0; } dt { overflow-wrap: anywhere; } mark { background: var(--mark); color: inherit; border-radius: 3px; }
i { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px; margin-right: 0.5em; }
svg { width: 100%; max-width: 40rem; height: auto; font-size: 12px; } svg text { fill: var(--soft); } .grid { stroke: var(--line); }
</style></head><body><h1>$title</h1>
$body
</body></html>
""")
