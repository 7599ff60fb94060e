"""What a terminal shows -> an SVG: tmux capture-pane -ep | python tools/figures/terminal.py TITLE OUT.svg [WIDTH]"""

import re
import sys
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

if __name__ == "__main__":
    title, out, *width = sys.argv[1:]
    console = Console(record=True, width=int(width[0]) if width else 118, file=StringIO(), force_terminal=True)
    console.print(Text.from_ansi(sys.stdin.read().rstrip()))
    svg = console.export_svg(title=title)
    # The font is the reader's own: a picture must not fetch anything.
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")
    Path(out).write_text("\n".join(line.rstrip() for line in svg.split("\n") if line.strip()) + "\n", encoding="utf-8")
