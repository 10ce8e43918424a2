"""Draw README's picture: the demo's terminal as it really ran, under frames that its camera drew.

Needs chromium. ``python tools/draw_demo_picture.py [-o docs/img/demo.png]``
"""

from __future__ import annotations

import argparse
import base64
import re
import subprocess
import tempfile
from importlib.resources import files
from io import StringIO
from pathlib import Path

import cv2
from rich.console import Console

from mli.cli.demo import demo_settings, watch_command
from mli.cli.demo_view import DemoView
from mli.cli.run import run_here
from mli.delivery.embedded_broker import EmbeddedBroker
from mli.pipeline.sources import belt

WIDTH, HEIGHT = 1000, 530
FRAMES = 40
SHOWN = (0, 2, 7, 37, 33)
SEED = 7

PAGE = """<html><body style="margin:0;background:#16181d;font:14px DejaVu Sans,sans-serif;color:#c9d1d9">
<div style="display:flex;gap:10px;padding:16px 16px 4px">%s</div>
<div style="padding:6px 16px">%s</div></body></html>"""
FIGURE = """<figure style="margin:0;flex:1">
<img style="width:100%%;border-radius:6px" src="data:image/jpeg;base64,%s">
<figcaption style="padding-top:4px;text-align:center">%s</figcaption></figure>"""


def terminal() -> str:
    """The demo's last screen, as SVG without references to fonts elsewhere."""
    console = Console(record=True, force_terminal=True, width=108, color_system="truecolor", file=StringIO())
    with tempfile.TemporaryDirectory() as folder, EmbeddedBroker() as broker:
        archive = Path(str(files("mli") / "assets" / "recycling.zip"))
        settings = demo_settings(archive, Path(folder), broker.port, frames=FRAMES, interval="100ms", seed=SEED)
        view = DemoView(settings, watch_command(broker.host, 1883), Console(quiet=True))
        run_here(view)
        console.print(view.last_picture)
    svg = console.export_svg(title="mli demo")
    return re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL).replace("Fira Code", "DejaVu Sans Mono")


def frame(index: int) -> str:
    """One frame with what it shows below it."""
    scene = belt.render(SEED, index)
    good, data = cv2.imencode(".jpg", scene.image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert good
    return FIGURE % (base64.b64encode(data.tobytes()).decode(), scene.label)


def main() -> None:
    """Write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/img/demo.png"))
    output = parser.parse_args().output
    page = PAGE % ("".join(frame(index) for index in SHOWN), terminal())
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "page.html"
        source.write_text(page)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
        flags += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}"]
        subprocess.run(
            ["chromium", *flags, f"--screenshot={output.absolute()}", source.as_uri()],
            check=True,
            stderr=subprocess.DEVNULL,
        )


if __name__ == "__main__":
    main()
