"""Landscapes at night: the dome, the comet, aurora, trails, meteors, the two towns."""
import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage
from canvas import (below, disc, fbm, grid, hexcol, hills, mix, ramp, smooth, splat, stars, warp)

DUSK = [(0.0, hexcol("#04060f")), (0.45, hexcol("#0b1430")), (0.75, hexcol("#23305e")),
        (0.92, hexcol("#6a5577")), (1.0, hexcol("#c98a6a"))]
DEEP = [(0.0, hexcol("#03050c")), (0.6, hexcol("#0a1228")), (1.0, hexcol("#1d2a4c"))]


def backdrop(w, h, stops, horizon=0.85):
    t = np.linspace(0, 1 / horizon, h, dtype=np.float32)
    return np.repeat(ramp(np.clip(t, 0, 1), stops)[:, None, :], w, 1)


def milky_way(w, h, seed, angle=-0.95, width=0.17, centre=(0.05, 0.0)):
    """A band of faint light with dust lanes, and where its stars are dense."""
    x, y = grid(w, h)
    x, y = x - centre[0], y - centre[1]
    c, s = np.cos(angle), np.sin(angle)
    along, across = x * c + y * s, -x * s + y * c
    bend = fbm(w, h, seed, 3.4, 1, 5) * 0.02
    band = np.exp(-((across + bend) / width) ** 2) * (0.55 + 0.45 * np.exp(-(along / 0.5) ** 2))
    cloud = 0.6 + 0.4 * np.tanh(fbm(w, h, seed + 1, 2.8, 2, 70))
    lane = smooth(0.1, 1.5, warp(fbm(w, h, seed + 2, 2.9, 2, 90), 30 * fbm(w, h, seed + 3, 3.5, 1, 8), 0)
                  + 1.3 * np.exp(-((across + bend * 2) / (width * 0.42)) ** 2))
    light = band * cloud * (1 - 0.86 * lane * np.exp(-(across / (width * 1.1)) ** 2))
    warm = np.exp(-(along / 0.34) ** 2 - (across / (width * 0.7)) ** 2)
    colour = mix(hexcol("#7d90c8"), hexcol("#e8b98c"), np.clip(warm, 0, 1))
    return light, light[..., None] * colour


def land(img, layers, seed, near=hexcol("#020308")):
    """Ranges of hills, far ones hazier."""
    h, w, _ = img.shape
    lines = []
    for i, (base, height, colour) in enumerate(layers):
        line = hills(w, h, seed + i * 7, base, height)
        lines.append(line)
        m = below(line, h)
        fade = np.clip((np.arange(h)[:, None] - line[None, :]) / (0.16 * h), 0, 1)
        img = img * (1 - m[..., None]) + mix(hexcol(colour), near, fade ** 0.8 * 0.75) * m[..., None]
    return img, lines


def dome(img, cx, base, r, slit=0.16, turn=0.0):
    """An observatory in silhouette at pixel (cx, base), radius r, with lamplight in its slit."""
    h, w, _ = img.shape
    k = 3
    m = Image.new("L", (w * k, h * k), 0)
    d = ImageDraw.Draw(m)
    box = lambda a, b, c, e: [a * k, b * k, c * k, e * k]
    d.rectangle(box(cx - r * 0.94, base - r * 0.72, cx + r * 0.94, base + r * 2), fill=255)
    d.pieslice(box(cx - r, base - r * 1.72, cx + r, base + r * 0.28), 180, 360, fill=255)
    d.rectangle(box(cx - r * 1.05, base - r * 0.76, cx + r * 1.05, base - r * 0.66), fill=255)
    d.rectangle(box(cx + r * 0.8, base - r * 0.4, cx + r * 2.1, base + r * 2), fill=255)
    d.polygon([(k * p, k * q) for p, q in [(cx + r * 0.7, base - r * 0.38), (cx + r * 1.45, base - r * 0.74), (cx + r * 2.2, base - r * 0.38)]], fill=255)
    mask = np.asarray(m.resize((w, h), Image.LANCZOS), np.float32)[..., None] / 255
    yy, xx = np.mgrid[0:h, 0:w]
    shade = np.clip(0.5 + (xx - cx) / (2.4 * r), 0, 1)
    body = mix(hexcol("#2a3358"), hexcol("#05070f"), np.clip(shade + np.clip((yy - base) / r, 0, 1) * 0.5, 0, 1))
    img = img * (1 - mask) + body * mask
    g = Image.new("L", (w * k, h * k), 0)
    d = ImageDraw.Draw(g)
    d.polygon([(k * p, k * q) for p, q in [(cx + r * (turn * 0.35 - slit), base - r * 1.7), (cx + r * (turn * 0.35 + slit * 0.7), base - r * 1.71), (cx + r * (turn + slit * 1.15), base - r * 0.8), (cx + r * (turn - slit * 1.2), base - r * 0.8)]], fill=255)
    for i in range(3):
        a = cx + r * (1.05 + 0.34 * i)
        d.rectangle(box(a, base - r * 0.16, a + r * 0.16, base + r * 0.1), fill=230)
    d.rectangle(box(cx - r * 0.14, base - r * 0.36, cx + r * 0.14, base + r * 0.12), fill=150)
    glow = np.asarray(g.resize((w, h), Image.LANCZOS), np.float32) / 255
    halo = ndimage.gaussian_filter(glow, r * 0.16) * 0.9 + ndimage.gaussian_filter(glow, r * 0.6) * 0.9
    lamp = np.array(hexcol("#ffb45e"), np.float32)
    return img + glow[..., None] * lamp * 1.15 + halo[..., None] * lamp * 0.8


def hero(w=1600, h=900):
    img = backdrop(w, h, DUSK, 0.9)
    light, way = milky_way(w, h, 11, angle=-0.85, centre=(0.12, -0.05))
    fade = np.clip(1.15 - np.arange(h)[:, None] / (0.82 * h), 0, 1)
    img = img + way * 0.34 * fade[..., None]
    img += stars(w, h, 2600, 5, density=np.clip(0.25 + light, 0, 1) * fade, bright=1.0, slope=1.45)
    img, lines = land(img, [(0.80, 0.07, "#3b4268"), (0.86, 0.06, "#1c2342"), (0.93, 0.05, "#0b1024")], 3)
    cx = int(w * 0.73)
    return dome(img, cx, lines[2][cx] + 4, h * 0.115)


def comet(w=1500, h=1000, head=(0.2, 0.1), angle=-2.35, seed=21, length=1.0):
    img = backdrop(w, h, DUSK, 0.95)
    x, y = grid(w, h)
    px, py = x - head[0], y - head[1]
    c, s = np.cos(angle), np.sin(angle)
    u, v = px * c + py * s, -px * s + py * c
    t = np.clip(u / length, 0, None)
    curve = v - 0.22 * np.clip(u, 0, None) ** 1.7
    wisp = 0.72 + 0.28 * np.tanh(warp(fbm(w, h, seed, 2.6, 3, 60), 0, 0))
    dust = (u > 0) * np.exp(-(curve / (0.012 + 0.17 * t)) ** 2) * np.exp(-t * 2.6) * wisp
    streak = 0.6 + 0.4 * np.sin(170 * v / (0.06 + t) + 3 * fbm(w, h, seed + 1, 3, 1, 9))
    ion = (u > 0) * np.exp(-((v + 0.04 * t) / (0.006 + 0.045 * t)) ** 2) * np.exp(-t * 1.9) * (0.5 + 0.5 * streak)
    r = np.hypot(px, py)
    coma = np.exp(-r / 0.016) * 2.2 + np.exp(-r / 0.055) * 0.32
    img = img + stars(w, h, 1500, seed + 2, density=np.repeat(np.clip(1.1 - np.arange(h)[:, None] / (0.9 * h), 0, 1), w, 1), slope=1.5)
    img += dust[..., None] * np.array(hexcol("#f3dcb4")) * 0.9
    img += ion[..., None] * np.array(hexcol("#7fb4ff")) * 0.55
    img += coma[..., None] * np.array(hexcol("#e9f6e4"))
    img, lines = land(img, [(0.84, 0.06, "#4a4668"), (0.90, 0.05, "#1d2140"), (0.96, 0.03, "#080b18")], seed + 4)
    return img, lines


def crowd(img, line, seed, n=46):
    """People on a ridge, looking up."""
    h, w, _ = img.shape
    k = 3
    m = Image.new("L", (w * k, h * k), 0)
    d = ImageDraw.Draw(m)
    rng = np.random.default_rng(seed)
    for x in np.sort(rng.normal(0.42, 0.2, n).clip(0.02, 0.98)) * w:
        y = line[int(x)] + 3
        s = h * rng.uniform(0.026, 0.042)
        d.ellipse([k * (x - s * .13), k * (y - s), k * (x + s * .13), k * (y - s * .72)], fill=255)
        d.rounded_rectangle([k * (x - s * .2), k * (y - s * .7), k * (x + s * .2), k * (y + s * .4)], k * s * .16, fill=255)
        if rng.uniform() < 0.25:
            a = rng.choice([-1, 1])
            d.line([k * x, k * (y - s * .55), k * (x + a * s * .5), k * (y - s * 1.05)], fill=255, width=int(k * s * .13))
    for x in (0.61, 0.2):
        x *= w
        y, s = line[int(x)] + 2, h * 0.05
        for a in (-.3, .05, .35):
            d.line([k * x, k * (y - s * .8), k * (x + a * s), k * (y + s * .3)], fill=255, width=int(k * s * .07))
        d.line([k * (x - s * .55), k * (y - s * .5), k * (x + s * .6), k * (y - s * 1.2)], fill=255, width=int(k * s * .2))
    mask = np.asarray(m.resize((w, h), Image.LANCZOS), np.float32)[..., None] / 255
    return img * (1 - mask) + np.array(hexcol("#04060e")) * mask


def aurora(w=1500, h=900):
    img = backdrop(w, h, DEEP, 0.9)
    img += stars(w, h, 900, 31, slope=1.6, bright=0.8)
    y = np.arange(h, dtype=np.float32)[:, None] / h
    xs = np.arange(w)
    for seed, base, strength, col in [(41, 0.66, 1.0, "#4dffa8"), (42, 0.55, 0.7, "#59ffd0"), (43, 0.47, 0.4, "#8dff8a")]:
        n1 = ndimage.gaussian_filter1d(fbm(w, 16, seed, 2.4, 0.02)[3], 22, mode="wrap")
        n1 /= np.abs(n1).max()
        edge = base - 0.075 * n1 + 0.035 * np.sin(xs / w * 9 + seed)
        rays = ndimage.gaussian_filter1d(np.random.default_rng(seed).standard_normal(w), 5, mode="wrap")
        rays = np.clip(0.62 + 0.5 * rays / rays.std() * 0.5, 0.1, 1.5)
        up = edge[None, :] - y
        tall = 0.13 + 0.12 * np.clip(rays, 0, 1)[None, :]
        curtain = smooth(-0.012, 0.012, up) * np.exp(-np.clip(up, 0, None) / tall) * rays[None, :] * strength
        top = np.clip(up / 0.34, 0, 1)
        img += curtain[..., None] * mix(hexcol(col), hexcol("#a04be0"), np.clip(top * 1.3, 0, 1)) * 0.62
    img, lines = land(img, [(0.84, 0.05, "#1a3550"), (0.91, 0.05, "#0c1a2e"), (0.97, 0.02, "#050a14")], 47)
    cx = int(w * 0.24)
    return dome(img, cx, lines[1][cx] + 6, h * 0.06)


def trails(w=1400, h=1000):
    k = 2
    img = backdrop(w, h, DEEP, 0.95)
    rng = np.random.default_rng(51)
    px, py = w * 0.42, h * 0.42
    im = Image.new("RGB", (w * k, h * k))
    d = ImageDraw.Draw(im)
    tints = [(170, 195, 255), (215, 225, 255), (255, 255, 255), (255, 232, 200), (255, 200, 150)]
    for _ in range(620):
        r = np.sqrt(rng.uniform(0, 1)) * w * 0.85
        a = rng.uniform(0, 360)
        f = min(0.12 + 0.1 * rng.pareto(1.8), 1)
        c = tuple(int(v * f) for v in tints[rng.integers(0, 5)])
        d.arc([k * (px - r), k * (py - r), k * (px + r), k * (py + r)], a, a + 34, fill=c, width=2 if f < 0.5 else 3)
    lay = np.asarray(im.filter(ImageFilter.GaussianBlur(0.9)).resize((w, h), Image.LANCZOS), np.float32) / 255
    img = img + lay ** 1.6 * 0.95
    img, lines = land(img, [(0.84, 0.06, "#26345c"), (0.92, 0.05, "#0d142c")], 53)
    cx = int(w * 0.42)
    return dome(img, cx, lines[1][cx] + 8, h * 0.13)


def meteors(w=1200, h=800):
    img = backdrop(w, h, DUSK, 1.0)
    light, way = milky_way(w, h, 61, angle=0.9, centre=(-0.25, 0))
    img += way * 0.2
    img += stars(w, h, 1200, 62, slope=1.5)
    rng = np.random.default_rng(64)
    yy, xx = np.mgrid[0:h, 0:w]
    rx, ry = 0.62 * w, -0.1 * h
    for _ in range(13):
        a = rng.uniform(0.35, np.pi - 0.35)
        r0, ln, f = rng.uniform(0.25, 0.8) * h, rng.uniform(0.08, 0.3) * h, rng.uniform(0.25, 1.1)
        dx, dy = np.cos(a), np.sin(a)
        u = (xx - rx) * dx + (yy - ry) * dy - r0
        v = -(xx - rx) * dy + (yy - ry) * dx
        t = u / ln
        m = (t > 0) * (t < 1) * np.sin(np.clip(t, 0, 1) ** 1.8 * np.pi) * np.exp(-(v / (1.1 + 0.7 * f)) ** 2)
        img += (f * m)[..., None] * mix(hexcol("#8dffcf"), hexcol("#fff2dc"), np.clip(t, 0, 1))
    img, _ = land(img, [(0.87, 0.05, "#4a4668"), (0.94, 0.04, "#12162c")], 66)
    return img


def town(dark, w=1000, h=660):
    """The same street of roofs under sky glow, and with shielded lamps."""
    img = backdrop(w, h, DEEP, 0.95)
    if dark:
        light, way = milky_way(w, h, 72, angle=-1.1)
        img = img + way * 0.4 + stars(w, h, 1500, 73, density=np.clip(0.35 + light, 0, 1), slope=1.5)
    else:
        y = np.arange(h, dtype=np.float32)[:, None] / h
        glow = np.repeat(np.exp(-((0.9 - y) / 0.42) ** 2), w, 1) * (0.9 + 0.1 * np.tanh(fbm(w, h, 74, 3, 1, 6)))
        img = img + glow[..., None] * np.array(hexcol("#e0813c")) * 0.62 + stars(w, h, 26, 73, slope=1.2, bright=2)
    img, _ = land(img, [(0.74, 0.06, "#1c2747" if dark else "#6a4a48")], 75)
    k = 3
    m, g = Image.new("L", (w * k, h * k)), Image.new("L", (w * k, h * k))
    d, dg = ImageDraw.Draw(m), ImageDraw.Draw(g)
    rng, lamps = np.random.default_rng(76), np.random.default_rng(78)
    x = -20
    while x < w:
        bw, top = rng.uniform(46, 92), rng.uniform(0.74, 0.84) * h
        peak = top - bw * rng.uniform(0.3, 0.5)
        d.polygon([(k * a, k * b) for a, b in [(x, h), (x, top), (x + bw / 2, peak), (x + bw, top), (x + bw, h)]], fill=255)
        if rng.uniform() < 0.6:
            d.rectangle([k * (x + bw * .68), k * (peak - 2), k * (x + bw * .78), k * top], fill=255)
        for i in range(2):
            for j in range(2):
                if lamps.uniform() < (0.22 if dark else 0.6):
                    a, b = x + bw * (0.2 + 0.38 * i), top + 14 + 40 * j
                    dg.rectangle([k * a, k * b, k * (a + bw * .18), k * (b + 20)], fill=int(lamps.uniform(120, 255)))
        x += bw + rng.choice([0, 0, 10])
    up = lambda im: np.asarray(im.resize((w, h), Image.LANCZOS), np.float32) / 255
    mask, lit = up(m)[..., None], up(g)
    img = img * (1 - mask) + np.array(hexcol("#070a16" if dark else "#1d1416")) * mask
    halo = ndimage.gaussian_filter(lit, 5 if dark else 16) * (0.3 if dark else 1.3)
    return img + (lit * 0.85 + halo)[..., None] * np.array(hexcol("#ffb45e"))


def eclipse(w=1200, h=800):
    x, y = grid(w, h)
    r, a = np.hypot(x, y), np.arctan2(y, x)
    R = 0.19
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#070b1c")) * (1 + 1.2 * np.exp(-r / 0.4))[..., None]
    n = np.zeros_like(a)
    rng = np.random.default_rng(81)
    for k in range(2, 60):
        n += rng.normal() * np.cos(k * a + rng.uniform(0, 6.3)) / k ** 0.75
    n = n / n.std()
    equator = 0.5 + 0.5 * np.cos(2 * (a - 0.3))
    d = np.clip(r - R, 0, None)
    corona = np.exp(-d / (0.045 + 0.05 * equator * (1 + 0.35 * np.tanh(n)))) * (0.75 + 0.2 * n * np.clip(d / 0.08, 0, 1))
    corona += 0.13 * np.exp(-d / 0.22) * (1 + 0.5 * np.tanh(n))
    img = img + np.clip(corona, 0, 3)[..., None] * np.array(hexcol("#eef1ff")) * 0.85
    prom = np.exp(-(d / 0.006) ** 2) * smooth(1.0, 2.2, n)
    img += prom[..., None] * np.array(hexcol("#ff5a78")) * 1.5
    moon = disc(x, y, 0, 0, R, 1.5 / h)[..., None]
    img = img * (1 - moon) + np.array(hexcol("#060810")) * moon
    bx, by = R * np.cos(-0.75), R * np.sin(-0.75)
    q = np.hypot(x - bx, y - by)
    bead = 3.2 * np.exp(-(q / 0.012) ** 2) + 0.4 * np.exp(-q / 0.03)
    img += bead[..., None] * np.array(hexcol("#fff6e6"))
    return img + stars(w, h, 40, 83, slope=1.4) * (r > R + 0.1)[..., None]
