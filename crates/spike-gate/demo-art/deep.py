"""Far things: nebulae, galaxies, clusters; and two plates from the workshop."""
import numpy as np
from scipy import ndimage
from canvas import fbm, grid, hexcol, mix, ramp, smooth, splat, stars, warp


def cloud(w, h, seed, bend=60):
    """Billows: noise that noise has stirred."""
    a = fbm(w, h, seed, 2.7, 1.5, 140)
    dx, dy = fbm(w, h, seed + 1, 3.2, 1, 24), fbm(w, h, seed + 2, 3.2, 1, 24)
    return warp(a, bend * dx, bend * dy)


def rose(w=1300, h=1000):
    x, y = grid(w, h)
    r = np.hypot(x, y * 1.05) + 0.05 * fbm(w, h, 301, 3, 1, 10)
    c = cloud(w, h, 302, 50)
    shell = np.exp(-((r - 0.25) / 0.15) ** 2) * np.clip(0.75 + 0.4 * c, 0.05, 2)
    hollow = np.exp(-(r / 0.17) ** 2)
    dust = smooth(0.4, 1.6, cloud(w, h, 305, 70)) * np.exp(-((r - 0.32) / 0.15) ** 2)
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#06060f"))
    img += shell[..., None] * mix(hexcol("#e23a5e"), hexcol("#ff9a86"), np.clip(shell * 0.6, 0, 1)) * 0.8
    img += (hollow * np.clip(0.7 + 0.25 * c, 0, 2))[..., None] * np.array(hexcol("#4fb6c8")) * 0.5
    img *= (1 - 0.8 * dust)[..., None]
    rng = np.random.default_rng(309)
    for _ in range(26):
        splat(img, w / 2 + rng.normal() * h * .06, h / 2 + rng.normal() * h * .06, rng.uniform(.5, 2.6), np.array([.75, .87, 1.]), 1.2)
    return img + stars(w, h, 1300, 306, slope=1.5, bright=0.9)


def veil(w=1300, h=900):
    x, y = grid(w, h)
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#05060e"))
    for seed, col, col2, off in [(311, "#ff4d5e", "#ffae8a", 0.0), (321, "#36c8d8", "#a8fff2", 0.045)]:
        n = cloud(w, h, seed, 90)
        ridge = np.exp(-np.abs(n) / 0.10) * 0.75 + np.exp(-np.abs(n) / 0.4) * 0.2
        path = y + off - 0.28 * x - 0.12 * np.sin(3.1 * x + 0.4) + 0.05 * fbm(w, h, seed + 5, 3, 1, 6)
        env = np.exp(-(path / 0.15) ** 2) * np.clip(0.55 + 0.45 * fbm(w, h, seed + 7, 3, 1, 8), 0, 2)
        v = ridge * env
        img += v[..., None] * mix(hexcol(col), hexcol(col2), np.clip(v, 0, 1)) * 0.85
    return img + stars(w, h, 2200, 331, slope=1.6, bright=0.8)


def pillars(w=1200, h=1200):
    x, y = grid(w, h)
    n = cloud(w, h, 341, 40)
    glow = np.exp(-(np.hypot(x - 0.1, y + 0.35) / 0.62) ** 2)
    img = mix(hexcol("#0b2836"), hexcol("#8fd0b8"), np.clip(glow + 0.12 * n, 0, 1))
    img = img * 0.75 + (glow ** 2 * np.clip(0.5 + 0.3 * n, 0, 2))[..., None] * np.array(hexcol("#f4e3a8")) * 0.4
    wob = fbm(w, h, 342, 2.8, 1, 60)
    body = np.zeros_like(x)
    for cx, top, wd, lean in [(-0.17, -0.26, 0.075, 0.22), (0.06, -0.10, 0.06, 0.16), (0.24, 0.06, 0.055, 0.1)]:
        ax = x - cx - lean * (y - 0.3) + 0.03 * wob
        taper = wd * (0.7 + 0.7 * np.clip(y - top, 0, 1)) + 0.022 * wob
        body = np.maximum(body, smooth(0.014, -0.014, np.abs(ax) - taper) * smooth(-0.016, 0.03, y - top + 0.03 * wob + (ax / (taper + .03)) ** 2 * 0.05))
    body = np.maximum(body, smooth(0.3, 0.44, y + 0.05 * wob))
    edge = np.clip(body - ndimage.gaussian_filter(np.roll(body, 14, 0), 9), 0, 1)
    tex = np.clip(0.5 + 0.22 * cloud(w, h, 345, 30), 0, 1)
    dust = mix(hexcol("#120b0c"), hexcol("#7a4526"), tex * np.clip(0.95 - (y + 0.25) * 0.9, 0.1, 1))
    img = img * (1 - body[..., None]) + dust * body[..., None] + (edge * 0.75)[..., None] * np.array(hexcol("#ffd9a0"))
    return img + stars(w, h, 420, 346, density=1 - 0.95 * body, slope=1.5)


def spiral(w=1300, h=1000):
    x, y = grid(w, h)
    c, s = np.cos(0.5), np.sin(0.5)
    u, v = x * c + y * s, (-x * s + y * c) / 0.62
    r, a = np.hypot(u, v) + 1e-4, np.arctan2(v, u)
    n1, n2 = fbm(w, h, 351, 2.5, 3, 160), fbm(w, h, 352, 2.6, 4, 160)
    wind = 2 * (a - 3.1 * np.log(r / 0.06)) + 0.35 * n1
    arm = np.clip(0.5 + 0.5 * np.cos(wind), 0, 1) ** 1.7
    lane = np.clip(0.5 + 0.5 * np.cos(wind + 0.95), 0, 1) ** 5
    disc = np.exp(-r / 0.155) * smooth(0.6, 0.3, r)
    knots = np.clip(n2 - 0.6, 0, 2) * arm
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#05060f"))
    img += (disc * (0.28 + 1.25 * arm * (0.7 + 0.3 * n1)))[..., None] * mix(hexcol("#ffe2b8"), hexcol("#7fa2ff"), smooth(0.04, 0.24, r)) * 1.0
    img += (knots * np.exp(-r / 0.22))[..., None] * np.array(hexcol("#ff6f9a")) * 0.5
    img *= (1 - 0.62 * (lane * smooth(0.04, 0.1, r) * np.exp(-r / 0.4) * (0.7 + 0.3 * np.tanh(n2))))[..., None]
    img += (np.exp(-(r / 0.045) ** 1.1) * 1.5)[..., None] * np.array(hexcol("#ffe0b0"))
    return np.clip(img, 0, None) + stars(w, h, 700, 353, slope=1.4, bright=0.9) + stars(w, h, 3000, 354, density=np.clip(disc * arm * 1.2, 0, 1), slope=2.4, bright=0.8, size=0.6)


def edge_on(w=1300, h=760):
    x, y = grid(w, h)
    c, s = np.cos(-0.22), np.sin(-0.22)
    u, v = x * c + y * s, -x * s + y * c
    n = fbm(w, h, 361, 2.5, 3, 150)
    disc = np.exp(-np.abs(u) / 0.27) * np.exp(-np.abs(v) / (0.017 + 0.012 * np.exp(-np.abs(u) / .2))) * smooth(0.78, 0.5, np.abs(u))
    bulge = np.exp(-(np.hypot(u, v * 1.5) / 0.05) ** 0.9) * 1.5
    lane = np.exp(-((v + 0.006 + 0.004 * n) / 0.0075) ** 2) * smooth(0.62, 0.3, np.abs(u)) * (0.75 + 0.25 * np.tanh(n))
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#05060e"))
    img += (disc * (1.2 + 0.2 * n))[..., None] * mix(hexcol("#ffdca4"), hexcol("#a9bcff"), smooth(0.08, 0.5, np.abs(u)))
    img += bulge[..., None] * np.array(hexcol("#ffd79a"))
    img *= (1 - 0.88 * lane)[..., None]
    return img + stars(w, h, 900, 363, slope=1.45, bright=0.9)


def globular(n=1000):
    rng = np.random.default_rng(371)
    img = np.ones((n, n, 3), np.float32) * np.array(hexcol("#05060f"))
    x, y = grid(n, n)
    img += (np.exp(-np.hypot(x, y) / 0.07) * 0.75)[..., None] * np.array(hexcol("#ffe6bd"))
    tint = np.array([[.72, .84, 1], [1, .95, .85], [1, .88, .68], [1, .74, .5]], np.float32)
    for _ in range(4600):
        r = 0.022 * ((1 - rng.uniform(0, 1)) ** (-0.72) - 1) + abs(rng.normal()) * 0.035
        if r > 0.68:
            continue
        a = rng.uniform(0, 6.2832)
        f = min(0.10 * (1 - rng.uniform(0, 1)) ** (-0.6), 1.6)
        splat(img, n / 2 + r * n * np.cos(a), n / 2 + r * n * np.sin(a), f, tint[rng.integers(0, 4)], 0.9)
    return img


def seven(w=1200, h=800):
    x, y = grid(w, h)
    img = np.ones((h, w, 3), np.float32) * np.array(hexcol("#060a18"))
    n = cloud(w, h, 381, 50)
    streaks = fbm(w, h, 384, 2.4, 4, 200)
    rng = np.random.default_rng(385)
    for cx, cy, f in [(-.16, .06, 5.5), (.02, -.07, 4.5), (.17, -.03, 4.8), (.1, .13, 4.0), (-.02, .15, 4.2), (.3, .1, 3.6), (-.3, -.08, 3.4), (-.08, -.2, 2.6), (.24, -.2, 2.4)]:
        d = np.hypot(x - cx, y - cy)
        img += (np.exp(-d / (0.05 + 0.012 * f)) * np.clip(0.6 + 0.28 * n + 0.16 * streaks, 0, 2) * f * 0.09)[..., None] * np.array(hexcol("#5b8cff"))
        px, py = (cx * h + w / 2), (cy * h + h / 2)
        splat(img, px, py, f, np.array([.8, .9, 1.]), 1.7)
        for k in (0, 1):
            l = np.exp(-np.abs((x - cx, y - cy)[k]) / 0.022) * np.exp(-((y - cy, x - cx)[k] / 0.0012) ** 2)
            img += (l * f * 0.17)[..., None] * np.array([.8, .9, 1.])
    return img + stars(w, h, 900, 386, slope=1.6, bright=0.8)


def spectrum(w=1200, h=170):
    """The Sun's colours with the dark lines that anyone with a grating can find."""
    nm = np.linspace(395, 690, w)
    g = lambda c, s: np.exp(-((nm - c) / s) ** 2)
    col = np.stack([g(620, 45) + 0.32 * g(440, 22) + 0.55 * g(580, 25), g(545, 42) + 0.18 * g(600, 20), g(455, 32) + 0.22 * g(500, 16)], -1)
    col *= (0.35 + 0.65 * smooth(395, 440, nm) * smooth(700, 650, nm))[:, None]
    dark = np.ones_like(nm)
    for c, s, d in [(396.8, .9, .9), (410.2, .5, .6), (430.8, 1.1, .7), (434.0, .6, .6), (438.4, .4, .5), (486.1, .6, .8), (516.7, .4, .7), (517.3, .4, .7), (518.4, .5, .8), (527.0, .5, .5), (589.0, .45, .9), (589.6, .45, .9), (656.3, .7, .9), (686.7, .6, .6)]:
        dark *= 1 - d * np.exp(-((nm - c) / s) ** 2)
    rng = np.random.default_rng(391)
    for _ in range(120):
        dark *= 1 - rng.uniform(.05, .3) * np.exp(-((nm - rng.uniform(395, 690)) / .25) ** 2)
    y = np.abs(np.linspace(-1, 1, h))[:, None, None]
    return (col * dark[:, None])[None] * np.clip((1 - y) * 9, 0, 1) + np.array(hexcol("#070a17"))


def foucault(n=520):
    """A mirror under the knife edge: shadows on a surface flat to a fraction of a wave."""
    x, y = grid(n, n)
    r = np.hypot(x, y) / 0.44
    fig = 0.9 * (r ** 2 - 1.3 * r ** 4) + 0.012 * fbm(n, n, 401, 3, 2, 30)
    gy, gx = np.gradient(fig)
    v = 0.42 + gx * n * 0.16 + 0.06 * x
    m = np.clip((1 - r) * 0.44 * n + 0.5, 0, 1) * (1 - np.clip((0.17 - r) * 0.44 * n + 0.5, 0, 1))
    rim = np.exp(-((r - 1) / 0.006) ** 2) * (0.5 + 0.5 * x / 0.44)
    v = np.clip(v, 0.02, 1) * m + rim * 0.3
    return np.repeat(v[..., None], 3, 2) * np.array(hexcol("#ffe9c8")) + np.array(hexcol("#070a17"))
