"""What every picture is painted with: noise, stars, tone and a way to save.

Pictures are float arrays, height x width x 3, linear light, 0 to about 1.
"""
import numpy as np
from PIL import Image
from scipy import ndimage


def grid(w, h):
    """Coordinates x, y with y from -0.5 to 0.5 and square pixels."""
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    return (x - w / 2) / h, (y - h / 2) / h


def fbm(w, h, seed, beta=3.0, lo=1.0, hi=1e9):
    """Noise with a 1/f^beta spectrum between `lo` and `hi` cycles, mean 0, deviation 1. Tiles."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(h)[:, None] * h
    fx = np.fft.rfftfreq(w)[None, :] * h
    f = np.hypot(fx, fy)
    f[0, 0] = 1
    gain = f ** (-beta / 2) * (f >= lo) * np.exp(-((f / hi) ** 2))
    phase = np.fft.rfft2(rng.standard_normal((h, w)))
    out = np.fft.irfft2(phase * gain, s=(h, w))
    return ((out - out.mean()) / out.std()).astype(np.float32)


def warp(field, dx, dy):
    """`field` looked up at displaced pixels; dx, dy in pixels."""
    h, w = field.shape
    y, x = np.mgrid[0:h, 0:w]
    return ndimage.map_coordinates(field, [y + dy, x + dx], order=1, mode="wrap")


def smooth(lo, hi, v):
    t = np.clip((v - lo) / (hi - lo), 0, 1)
    return t * t * (3 - 2 * t)


def mix(a, b, t):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    return a + (b - a) * t[..., None]


def ramp(t, stops):
    """Colour of `t` along [(position, (r, g, b)), ...]."""
    xs = [s[0] for s in stops]
    return np.stack([np.interp(t, xs, [s[1][i] for s in stops]) for i in range(3)], -1).astype(np.float32)


def hexcol(s):
    """'#rrggbb' to linear light."""
    v = np.array([int(s[i:i + 2], 16) / 255 for i in (1, 3, 5)], np.float32)
    return tuple(v ** 2.2)


STAR_TINTS = np.array([[0.70, 0.80, 1.0], [0.85, 0.90, 1.0], [1, 1, 1], [1, 0.93, 0.82], [1, 0.82, 0.62]], np.float32)


def stars(w, h, n, seed, density=None, bright=1.0, slope=1.5, size=0.75):
    """`n` stars with a power law of brightness; `density` (0..1) thins them."""
    rng = np.random.default_rng(seed)
    out = np.zeros((h, w, 3), np.float32)
    xs, ys = rng.uniform(0, w, n), rng.uniform(0, h, n)
    if density is not None:
        keep = rng.uniform(0, 1, n) < density[ys.astype(int), xs.astype(int)]
        xs, ys = xs[keep], ys[keep]
    flux = bright * 0.08 * (1 - rng.uniform(0, 1, len(xs))) ** (-1 / slope)
    tint = STAR_TINTS[rng.integers(0, len(STAR_TINTS), len(xs))]
    for x, y, f, t in zip(xs, ys, np.minimum(flux, 6), tint):
        splat(out, x, y, f, t, size + 0.18 * min(f, 4))
    return out


def splat(out, x, y, flux, tint, r):
    """One star: a Gaussian, and for a bright one a soft halo."""
    h, w, _ = out.shape
    reach = int(np.ceil(r * 4)) + (int(10 + 5 * flux) if flux > 1.2 else 0)
    x0, x1, y0, y1 = int(x) - reach, int(x) + reach + 1, int(y) - reach, int(y) + reach + 1
    if x1 <= 0 or y1 <= 0 or x0 >= w or y0 >= h:
        return
    x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, w), min(y1, h)
    yy, xx = np.mgrid[y0:y1, x0:x1]
    d2 = (xx - x) ** 2 + (yy - y) ** 2
    v = flux * np.exp(-d2 / (2 * r * r))
    if flux > 1.2:
        v = v + 0.035 * flux * np.exp(-np.sqrt(d2) / (2 + flux))
    out[y0:y1, x0:x1] += v[..., None] * tint


def hills(w, h, seed, base, height, rough=2.6):
    """The height line of a range of hills, in pixels from the top."""
    line = fbm(w, 8, seed, beta=rough, lo=0.02)[0]
    line = ndimage.gaussian_filter1d(np.interp(np.linspace(0, 1, w), np.linspace(0, 1, w), line), 2, mode="wrap")
    n = np.fft.irfft(np.fft.rfft(np.random.default_rng(seed).standard_normal(w)) /
                     np.maximum(np.arange(w // 2 + 1), 1.5) ** (rough / 2 + 0.25), w)
    n /= np.abs(n).max()
    return (base - height * (0.75 * n + 0.1 * line / max(abs(line).max(), 1e-6))) * h


def below(line, h):
    """Soft mask of what lies under a height line."""
    y = np.arange(h, dtype=np.float32)[:, None]
    return np.clip(y - line[None, :] + 0.5, 0, 1)


def disc(x, y, cx, cy, r, soft):
    return np.clip((r - np.hypot(x - cx, y - cy)) / soft + 0.5, 0, 1)


def sphere(n, r=0.42):
    """Unit normals of a ball in an n x n picture: nx, ny, nz and a soft mask."""
    x, y = grid(n, n)
    nx, ny = x / r, y / r
    rr = np.hypot(nx, ny)
    nz = np.sqrt(np.clip(1 - rr ** 2, 0, 1))
    return nx, ny, nz, np.clip((1 - rr) * r * n + 0.5, 0, 1)


def tone(img, exposure=1.0):
    """Linear light to sRGB bytes, with a soft shoulder."""
    v = np.clip(img * exposure, 0, None)
    v = v / (1 + 0.25 * v) * 1.18
    v = np.clip(v, 0, 1) ** (1 / 2.2)
    return Image.fromarray((v * 255 + 0.5).astype(np.uint8))


def save(img, path, quality=80, exposure=1.0, size=None):
    im = img if isinstance(img, Image.Image) else tone(img, exposure)
    if size:
        im = im.resize(size, Image.LANCZOS)
    p = str(path)
    if p.endswith(".jpg"):
        im.save(p, quality=quality, optimize=True, progressive=True)
    elif p.endswith(".webp"):
        im.save(p, quality=quality, method=6)
    else:
        im.save(p, optimize=True)
    return im
