"""The Moon, the Sun and the planets, each a shaded ball on a dark ground."""
import numpy as np
from scipy import ndimage
from canvas import fbm, grid, hexcol, mix, ramp, smooth, sphere, stars, warp

GROUND = np.array(hexcol("#070a17"), np.float32)


def ground(n, seed=0, count=50):
    return np.ones((n, n, 3), np.float32) * GROUND + stars(n, n, count, 900 + seed, bright=0.5)


def lonlat(nx, ny, nz, tilt=0.0, turn=0.0):
    """Longitude and latitude, -1 to 1, of a ball's normals after a tilt in the picture plane."""
    c, s = np.cos(tilt), np.sin(tilt)
    x, y = nx * c - ny * s, nx * s + ny * c
    return (np.arctan2(x, nz) + turn) / np.pi, np.arcsin(np.clip(y, -1, 1)) / (np.pi / 2)


def lookup(tex, lon, lat):
    h, w = tex.shape[:2]
    return ndimage.map_coordinates(tex, [(lat + 1) / 2 * (h - 1), ((lon + 1) / 2 * w) % w], order=1, mode="wrap")


_MOON = {}


def moon_face(n=900, seed=3):
    """Albedo and height of a moon of our own: seas, craters, rays. Not a map of the real one."""
    if n in _MOON:
        return _MOON[n]
    rng = np.random.default_rng(seed)
    height = fbm(n, n, seed, 2.6, 3, 300) * 0.0016
    sea = np.zeros((n, n), np.float32)
    x, y = grid(n, n)
    wob = fbm(n, n, seed + 1, 3.0, 2, 60) * 0.018
    for cx, cy, r in [(-0.14, -0.16, 0.13), (0.09, -0.17, 0.10), (0.16, -0.03, 0.09), (-0.26, 0.0, 0.12), (-0.15, 0.11, 0.08), (0.27, -0.1, 0.045), (0.2, 0.08, 0.05), (-0.02, -0.28, 0.05)]:
        sea = np.maximum(sea, smooth(0.02, -0.02, np.hypot(x - cx, (y - cy) * 1.1) - r + wob))
    albedo = 0.80 - 0.36 * sea + 0.035 * fbm(n, n, seed + 2, 2.4, 4, 200)
    radii = np.sort(0.0045 * (1 - rng.uniform(0, 1, 900)) ** (-1 / 2.1))[::-1]
    for i, r in enumerate(np.minimum(radii, 0.055)):
        a, q = rng.uniform(0, 2 * np.pi), 0.415 * np.sqrt(rng.uniform(0, 1))
        cx, cy = q * np.cos(a), q * np.sin(a)
        px, py = int((cx + 0.5) * n), int((cy + 0.5) * n)
        if sea[min(py, n - 1), min(px, n - 1)] > 0.5 and rng.uniform() < 0.72:
            continue
        k = int(r * n * 2.4) + 2
        x0, x1, y0, y1 = max(px - k, 0), min(px + k, n), max(py - k, 0), min(py + k, n)
        f = np.sqrt(max(1 - (q / 0.42) ** 2, 0.05))
        dx, dy = x[y0:y1, x0:x1] - cx, y[y0:y1, x0:x1] - cy
        ur, ut = (dx * np.cos(a) + dy * np.sin(a)) / f, -dx * np.sin(a) + dy * np.cos(a)
        d = np.hypot(ur, ut) / r
        rim = np.exp(-((d - 1) / 0.16) ** 2) * 0.32
        bowl = -0.62 * np.clip(1 - d * d, 0, 1) ** 0.8
        peak = 0.22 * np.exp(-(d / 0.16) ** 2) if r > 0.02 else 0
        height[y0:y1, x0:x1] += (rim + bowl + peak) * r
        albedo[y0:y1, x0:x1] += 0.05 * np.exp(-((d - 1) / 0.3) ** 2)
    for cx, cy, reach in [(0.03, 0.27, 0.36), (-0.21, -0.02, 0.13)]:
        dx, dy = x - cx, y - cy
        d, a = np.hypot(dx, dy), np.arctan2(dy, dx)
        spokes = np.zeros_like(a)
        for k in range(5, 46):
            spokes += rng.normal() * np.cos(k * a + rng.uniform(0, 6.3)) / k ** 0.4
        spokes = np.clip(spokes / spokes.std() - 0.7, 0, 2)
        albedo += 0.11 * spokes * np.exp(-d / (reach * 0.55)) * smooth(0.012, 0.03, d) + 0.16 * np.exp(-(d / 0.022) ** 2)
    _MOON[n] = (np.clip(albedo, 0.12, 1.1), height)
    return _MOON[n]


def moon(phase, n=900, with_stars=True):
    """`phase` 0 new, 0.5 full, 1 new again."""
    albedo, height = moon_face(n)
    nx, ny, nz, mask = sphere(n)
    gy, gx = np.gradient(ndimage.gaussian_filter(height, 0.7) * n)
    a = phase * 2 * np.pi
    lx, lz = np.sin(a), -np.cos(a)
    mx, my = nx - gx * 1.25, ny - gy * 1.25
    m = np.sqrt(mx ** 2 + my ** 2 + nz ** 2)
    light = np.clip((mx * lx + nz * lz) / m, 0, 1)
    smoothlight = nx * lx + nz * lz
    lit = light ** 0.62 * smooth(-0.05, 0.08, smoothlight)
    earthshine = 0.018 * (1 - 0.5 * (1 + lz))
    col = mix(hexcol("#b9b4ac"), hexcol("#fff8ea"), np.clip(albedo, 0, 1))
    ball = col * (albedo ** 1.5 * lit * 0.95)[..., None] + col * np.array([0.7, 0.85, 1.2]) * earthshine
    img = ground(n, 1, 60 if with_stars else 0)
    full = 0.5 * (1 + lz)
    x, y = grid(n, n)
    img = img + 0.05 * full * np.exp(-np.clip(np.hypot(x, y) - 0.42, 0, None) / 0.05)[..., None]
    return img * (1 - mask[..., None]) + ball * mask[..., None]


def shade(nx, ny, nz, lx=-0.55, ly=-0.25, limb=0.55):
    l = np.array([lx, ly, np.sqrt(1 - lx * lx - ly * ly)])
    return np.clip(nx * l[0] + ny * l[1] + nz * l[2], 0, 1) ** 0.8 * (limb + (1 - limb) * nz)


def place(ball, mask, n, seed):
    return ground(n, seed) * (1 - mask[..., None]) + np.maximum(ball, GROUND * 0.8) * mask[..., None]


def bands(n, stops, seed, tilt, turb, spot=None, r=0.42, halo=0.75):
    nx, ny, nz, mask = sphere(n, r)
    tw, th = 1600, 800
    lat = np.linspace(-1, 1, th, dtype=np.float32)[:, None] * np.ones((1, tw), np.float32)
    jets = np.sin(np.linspace(-1, 1, th) * 26)[:, None]
    swirl = fbm(tw, th, seed, 2.7, 3, 120)
    swirl = warp(swirl, 26 * jets + 10 * fbm(tw, th, seed + 1, 3, 2, 30), 5 * fbm(tw, th, seed + 2, 3, 2, 40))
    swirl = ndimage.gaussian_filter(swirl, (0.6, 5), mode="wrap")
    lat2 = lat + turb * swirl / swirl.std()
    grain = fbm(tw, th, seed + 3, 2.2, 6, 200)
    grain = ndimage.gaussian_filter(grain, (0.6, 9), mode="wrap")
    tex = ramp(lat2, stops) * (1 + 0.07 * grain / grain.std())[..., None]
    if spot:
        lon = np.linspace(-1, 1, tw)[None, :]
        d = np.hypot((lon - spot[0]) / spot[2], (lat - spot[1]) / (spot[2] * 1.05))
        tex = mix_tex(tex, hexcol("#f4e6d2"), np.exp(-((d - 1.25) / 0.28) ** 2) * halo)
        tex = mix_tex(tex, hexcol(spot[3]), smooth(1.12, 0.75, d + 0.1 * swirl / swirl.std() * 0.4))
    lon, la = lonlat(nx, ny, nz, tilt)
    ball = np.stack([lookup(tex[..., i], lon, la) for i in range(3)], -1)
    return ball * shade(nx, ny, nz)[..., None] * 1.12, mask, (nx, ny, nz)


def mix_tex(a, colour, t):
    return a + (np.array(colour, np.float32) - a) * t[..., None]


def jupiter(n=760):
    c = hexcol
    stops = [(-1, c("#6d6660")), (-.78, c("#9a8d80")), (-.62, c("#cdb89c")), (-.52, c("#a9846a")), (-.44, c("#e4d5bb")), (-.3, c("#efe5d2")),
             (-.2, c("#b8734c")), (-.12, c("#8e5537")), (-.06, c("#e9d9bd")), (.05, c("#f3ead8")), (.11, c("#c98d62")), (.2, c("#94603f")),
             (.27, c("#dcc3a0")), (.4, c("#efe2ca")), (.47, c("#b59273")), (.55, c("#d9c7ab")), (.7, c("#a3937f")), (1, c("#655f5a"))]
    ball, mask, _ = bands(n, stops, 201, 0.06, 0.014, (0.12, 0.28, 0.085, "#c4623c"))
    return place(ball, mask, n, 2)


def saturn(n=760):
    c = hexcol
    stops = [(-1, c("#8a7c62")), (-.6, c("#b9a47c")), (-.35, c("#d6c195")), (-.2, c("#c4a878")), (0, c("#ead9ae")), (.2, c("#cfb585")), (.45, c("#dcc89b")), (.7, c("#b39d76")), (1, c("#857657"))]
    r = 0.2
    tilt = -0.32
    ball, mask, (nx, ny, nz) = bands(n, stops, 211, tilt, 0.006, None, r)
    x, y = grid(n, n)
    cs, sn = np.cos(tilt), np.sin(tilt)
    u, v = x * cs - y * sn, x * sn + y * cs
    d = np.hypot(u, v / 0.34) / r
    fine = np.interp(d, np.linspace(1, 2.4, 500), 0.82 + 0.18 * np.tanh(ndimage.gaussian_filter1d(np.random.default_rng(5).standard_normal(500), 2) * 2.2))
    alpha = (smooth(1.22, 1.27, d) * smooth(1.53, 1.5, d) * 0.42 + smooth(1.52, 1.55, d) * smooth(1.96, 1.94, d) * 0.95 + smooth(2.02, 2.04, d) * smooth(2.29, 2.26, d) * 0.68) * fine
    ring = mix(c("#a08a66"), c("#f1e1bb"), fine)
    shadow = (v < 0) & (np.hypot(u - 0.16 * r + 0.5 * v, v * 0.25) < r * 0.93)
    ring = ring * np.where(shadow, 0.10, 0.86)[..., None]
    img = ground(n, 3)
    back, front = alpha * (v < 0), alpha * (v >= 0)
    img = img * (1 - back[..., None]) + ring * back[..., None]
    img = img * (1 - mask[..., None]) + ball * mask[..., None]
    return img * (1 - front[..., None]) + ring * front[..., None]


def mars(n=640):
    nx, ny, nz, mask = sphere(n)
    tw, th = 1400, 700
    base = fbm(tw, th, 221, 2.9, 1, 150)
    dark = smooth(0.2, 1.5, warp(base, 18 * fbm(tw, th, 222, 3, 2, 20), 0))
    fine = fbm(tw, th, 223, 2.3, 5, 250)
    tex = mix(hexcol("#d98a56"), hexcol("#6d3d2c"), dark * 0.9) * (1 + 0.09 * fine)[..., None]
    lat = np.linspace(-1, 1, th)[:, None] + 0.02 * fbm(tw, th, 224, 2.6, 2, 60)
    tex = mix_tex(tex, hexcol("#f6f1ea"), smooth(-0.76, -0.82, lat) + 0.7 * smooth(0.86, 0.92, lat))
    lon, la = lonlat(nx, ny, nz, 0.25)
    ball = np.stack([lookup(tex[..., i], lon, la) for i in range(3)], -1) * shade(nx, ny, nz)[..., None] * 1.15
    haze = np.clip(1 - nz, 0, 1) ** 3 * shade(nx, ny, nz)
    return place(ball + haze[..., None] * np.array(hexcol("#e6b493")) * 0.5, mask, n, 4)


def neptune(n=640):
    c = hexcol
    stops = [(-1, c("#284a9c")), (-.5, c("#2f63c4")), (-.2, c("#3a78dc")), (0.1, c("#2e66cb")), (.35, c("#4a8ce8")), (.6, c("#2c5cb8")), (1, c("#23428c"))]
    ball, mask, (nx, ny, nz) = bands(n, stops, 231, 0.4, 0.02, (0.1, 0.22, 0.07, "#1d3f8f"), halo=0.12)
    tw, th = 1400, 700
    streak = ndimage.gaussian_filter(fbm(tw, th, 232, 2.4, 3, 90), (0.8, 16), mode="wrap")
    streak = smooth(1.6, 3.0, streak / streak.std())
    lon, la = lonlat(nx, ny, nz, 0.4)
    ball = ball + (lookup(streak.astype(np.float32), lon, la) * shade(nx, ny, nz))[..., None] * 0.75
    return place(ball, mask, n, 5)


def sun(n=760):
    nx, ny, nz, mask = sphere(n)
    tex = fbm(n, n, 241, 1.6, 20, 200)
    tex = np.abs(tex)
    gran = 1 - 0.10 * ndimage.gaussian_filter(tex, 0.8)
    limb = 0.32 + 0.68 * nz ** 0.55
    x, y = grid(n, n)
    spots = np.ones_like(x)
    rng = np.random.default_rng(242)
    wob = fbm(n, n, 243, 2.2, 10, 150) * 0.0035
    for gx, gy in [(-0.12, -0.1), (0.17, 0.09), (0.03, 0.14)]:
        for _ in range(rng.integers(4, 8)):
            cx, cy, r = gx + rng.normal() * 0.026, gy + rng.normal() * 0.01, rng.uniform(0.003, 0.013)
            d = (np.hypot(x - cx, (y - cy) * 1.2) + wob) / r
            spots *= 1 - 0.45 * smooth(1.5, 1.2, d) - 0.42 * smooth(0.8, 0.6, d)
    fac = smooth(1.2, 2.6, fbm(n, n, 244, 2.2, 6, 90)) * np.clip(1 - nz, 0, 1) * 0.35
    v = gran * limb * spots + fac
    ball = ramp(np.clip(v, 0, 1.2), [(0, hexcol("#1a0500")), (.35, hexcol("#b5460a")), (.7, hexcol("#ff9a26")), (1, hexcol("#ffd873")), (1.2, hexcol("#fff3c8"))])
    d = np.clip(np.hypot(x, y) - 0.42, 0, None)
    img = np.ones((n, n, 3), np.float32) * GROUND + (np.exp(-d / 0.035) * 0.28)[..., None] * np.array(hexcol("#ff8a2a"))
    return img * (1 - mask[..., None]) + ball * mask[..., None]
