"""Paints every picture of the demo site: `python3 paint.py OUT` with pillow, numpy, scipy, fonttools, brotli, shapely and ffmpeg."""
import io
import math
import pathlib
import subprocess
import sys
import tempfile
import zipfile
import numpy as np
from PIL import Image
import deep
import diagrams
import sky
import typeface
import worlds
from canvas import hexcol, save, splat, stars, tone


def night(path, poster, w=854, h=480, frames=240, fps=24):
    """The sky turning over the dome for ten seconds."""
    rng = np.random.default_rng(7)
    n = 650
    r, a0 = np.sqrt(rng.uniform(0, 1, n)) * w, rng.uniform(0, 2 * math.pi, n)
    flux = np.minimum(0.14 * (1 - rng.uniform(0, 1, n)) ** (-1 / 1.6), 3.5)
    tint = np.array([[.7, .8, 1], [.85, .9, 1], [1, 1, 1], [1, .93, .82], [1, .82, .62]])[rng.integers(0, 5, n)]
    px, py = w * 0.36, h * 0.34
    base = sky.backdrop(w, h, sky.DUSK, 0.92)
    _, lines = sky.land(base, [(0.80, 0.06, "#3b4268"), (0.88, 0.05, "#141a36")], 13)
    with tempfile.TemporaryDirectory() as tmp:
        for f in range(frames):
            t = f / frames
            img = base.copy()
            ang = a0 + 0.55 * t
            for i in range(n):
                splat(img, px + r[i] * math.cos(ang[i]), py + r[i] * math.sin(ang[i]), flux[i], tint[i], 0.85)
            for start, x, y, dx, dy in ((0.28, 520, 60, 150, 90), (0.71, 300, 40, -120, 110)):
                u = (t - start) * frames / 9
                if 0 <= u < 1:
                    for k in range(40):
                        q = max(u - k * 0.012, 0)
                        splat(img, x + dx * q, y + dy * q, 0.9 * math.sin(math.pi * u) * (1 - k / 40), np.array([.9, 1, .95]), 0.9)
            img, _ = sky.land(img, [(0.80, 0.06, "#3b4268"), (0.88, 0.05, "#141a36")], 13)
            cx = int(w * 0.66)
            img = sky.dome(img, cx, lines[1][cx] + 6, h * 0.15, turn=0.42 * math.sin(2 * math.pi * t))
            im = tone(img)
            im.save(f"{tmp}/{f:04}.png", compress_level=1)
            if f == 60:
                im.save(poster, quality=82, optimize=True, progressive=True)
        subprocess.run(["ffmpeg", "-loglevel", "error", "-y", "-framerate", str(fps), "-i", f"{tmp}/%04d.png", "-c:v", "libx264", "-preset", "slower",
                        "-b:v", "330k", "-maxrate", "600k", "-bufsize", "1200k", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-map_metadata", "-1", str(path)], check=True)


def pack(path, drawings):
    """The download: a wallpaper and the charts."""
    readme = "Larkmoor Observatory sky pack\n\nA wallpaper and the charts of the season.\nYours under MIT OR Apache-2.0.\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        def put(name, data):
            z.writestr(zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        put("README.txt", readme)
        b = io.BytesIO()
        tone(sky.hero(2560, 1440)).save(b, "JPEG", quality=86, optimize=True, progressive=True)
        put("wallpaper-dome.jpg", b.getvalue())
        for name in ("chart-winter", "chart-summer", "moon-calendar", "comet-path"):
            put(name + ".svg", drawings[name])


def main(out):
    out = pathlib.Path(out)
    for d in ("img", "font", "media"):
        (out / d).mkdir(parents=True, exist_ok=True)
    img = out / "img"
    hero = save(sky.hero(), img / "dome.jpg", 90)
    save(hero, img / "dome-small.jpg", 84, size=(800, 450))
    comet, lines = sky.comet()
    save(sky.crowd(comet, lines[2], 9), img / "comet.jpg", 88)
    close, _ = sky.comet(1200, 800, (0.42, 0.02), -2.75, 27, 0.9)
    save(close, img / "comet-dusk.jpg", 84)
    save(sky.aurora(), img / "aurora.jpg", 82)
    save(sky.trails(), img / "trails.jpg", 78)
    save(sky.meteors(), img / "meteors.webp", 84)
    save(sky.town(True), img / "town-dark.webp", 86)
    save(sky.town(False), img / "town-lit.webp", 88)
    save(sky.eclipse(), img / "eclipse.jpg", 88)
    for phase, name in ((0.12, "crescent"), (0.25, "quarter"), (0.37, "gibbous"), (0.5, "full")):
        save(worlds.moon(phase), img / f"moon-{name}.webp", 76)
    for name, q in (("jupiter", 92), ("saturn", 92), ("mars", 90), ("neptune", 92), ("sun", 82)):
        save(getattr(worlds, name)(), img / f"{name}.webp", q)
    for name, file, q in (("rose", "rose", 76), ("veil", "veil", 66), ("pillars", "pillars", 72), ("spiral", "spiral", 82), ("edge_on", "edge-on", 88), ("globular", "globular", 90), ("seven", "seven-sisters", 78)):
        save(getattr(deep, name)(), img / f"{file}.jpg", q)
    save(tone(deep.spectrum()).quantize(160, dither=Image.Dither.NONE), img / "spectrum.png")
    save(tone(deep.foucault()).convert("L").quantize(48, dither=Image.Dither.NONE), img / "foucault.png")
    drawings = diagrams.all_drawings()
    for name, text in drawings.items():
        (img / f"{name}.svg").write_text(text)
    night(out / "media" / "night.mp4", img / "night-poster.jpg")
    pack(out / "media" / "sky-pack.zip", drawings)
    typeface.build(out / "font" / "larkmoor-caps.woff2")


if __name__ == "__main__":
    main(sys.argv[1])
