"""Larkmoor Caps: a monoline display face drawn as strokes, capitals and small capitals.

Each glyph is a width and a list of strokes on a grid whose baseline is 0 and cap height 700. A stroke is a
list of points (a polyline) or ("arc", cx, cy, rx, ry, from, to) in degrees, counter-clockwise from east.
"""
import math
import sys
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.t2CharStringPen import T2CharStringPen
from shapely.geometry import LineString, Polygon
from shapely.ops import unary_union

PEN, CAP, SIDE = 66, 700, 62
A = lambda cx, cy, rx, ry, a, b: ("arc", cx, cy, rx, ry, a, b)

CAPS = {
    "A": (560, [[(0, 0), (280, 700), (560, 0)], [(88, 220), (472, 220)]]),
    "B": (430, [[(0, 0), (0, 700)], [(0, 700), (225, 700)], A(225, 540, 160, 160, -90, 90), [(0, 380), (240, 380)], A(240, 190, 190, 190, -90, 90), [(0, 0), (240, 0)]]),
    "C": (610, [A(350, 350, 350, 350, 48, 312)]),
    "D": (560, [[(0, 0), (0, 700), (210, 700)], A(210, 350, 350, 350, -90, 90), [(0, 0), (210, 0)]]),
    "E": (380, [[(380, 0), (0, 0), (0, 700), (380, 700)], [(0, 380), (330, 380)]]),
    "F": (370, [[(0, 0), (0, 700), (370, 700)], [(0, 360), (320, 360)]]),
    "G": (650, [A(350, 350, 350, 350, 48, 360), [(700, 350), (410, 350)]]),
    "H": (500, [[(0, 0), (0, 700)], [(500, 0), (500, 700)], [(0, 360), (500, 360)]]),
    "I": (0, [[(0, 0), (0, 700)]]),
    "J": (300, [[(300, 700), (300, 180)], A(120, 180, 180, 180, -140, 0)]),
    "K": (450, [[(0, 0), (0, 700)], [(430, 700), (0, 290)], [(130, 412), (450, 0)]]),
    "L": (350, [[(0, 700), (0, 0), (350, 0)]]),
    "M": (640, [[(0, 0), (60, 700), (320, 170), (580, 700), (640, 0)]]),
    "N": (520, [[(0, 0), (0, 700), (520, 0), (520, 700)]]),
    "O": (700, [A(350, 350, 350, 350, 0, 360)]),
    "P": (410, [[(0, 0), (0, 700), (215, 700)], A(215, 505, 195, 195, -90, 90), [(0, 310), (215, 310)]]),
    "Q": (700, [A(350, 350, 350, 350, 0, 360), [(450, 190), (690, -40)]]),
    "R": (430, [[(0, 0), (0, 700), (215, 700)], A(215, 515, 185, 185, -90, 90), [(0, 330), (215, 330)], [(200, 330), (430, 0)]]),
    "S": (390, [A(200, 530, 170, 170, 28, 270), A(195, 180, 180, 180, -150, 90)]),
    "T": (470, [[(0, 700), (470, 700)], [(235, 700), (235, 0)]]),
    "U": (500, [[(0, 700), (0, 250)], A(250, 250, 250, 250, 180, 360), [(500, 250), (500, 700)]]),
    "V": (540, [[(0, 700), (270, 0), (540, 700)]]),
    "W": (800, [[(0, 700), (200, 0), (400, 640), (600, 0), (800, 700)]]),
    "X": (480, [[(0, 0), (470, 700)], [(10, 700), (480, 0)]]),
    "Y": (500, [[(0, 700), (250, 330), (500, 700)], [(250, 330), (250, 0)]]),
    "Z": (470, [[(10, 700), (460, 700), (0, 0), (470, 0)]]),
}
FIGURES = {
    "0": (460, [A(230, 350, 230, 350, 0, 360)]),
    "1": (170, [[(0, 560), (150, 700), (150, 0)]]),
    "2": (420, [A(205, 490, 205, 210, -32, 160), [(384, 388), (0, 0), (420, 0)]]),
    "3": (400, [A(195, 535, 165, 165, -90, 150), A(195, 185, 205, 185, -155, 90), [(140, 370), (195, 370)]]),
    "4": (470, [[(350, 0), (350, 700), (0, 200), (470, 200)]]),
    "5": (400, [[(370, 700), (60, 700), (35, 395)], A(185, 215, 215, 215, -150, 118)]),
    "6": (430, [A(215, 215, 215, 215, 0, 360), [(25, 300), (280, 700)]]),
    "7": (410, [[(0, 700), (410, 700), (130, 0)]]),
    "8": (430, [A(215, 540, 165, 160, 0, 360), A(215, 190, 215, 190, 0, 360)]),
    "9": (430, [A(215, 485, 215, 215, 0, 360), [(405, 400), (150, 0)]]),
}
SIGNS = {
    ".": (0, [[(0, 0), (0, 6)]]), ",": (30, [[(30, 10), (0, -110)]]), ":": (0, [[(0, 0), (0, 6)], [(0, 400), (0, 406)]]),
    "-": (220, [[(0, 330), (220, 330)]]), "\u2013": (360, [[(0, 330), (360, 330)]]), "\u2014": (620, [[(0, 330), (620, 330)]]),
    "'": (0, [[(0, 700), (0, 560)]]), "\u2019": (30, [[(30, 700), (0, 560)]]), "!": (0, [[(0, 700), (0, 200)], [(0, 0), (0, 6)]]),
    "?": (340, [A(170, 530, 170, 170, -70, 165), [(228, 370), (190, 300), (190, 190)], [(190, 0), (190, 6)]]),
    "&": (520, [A(220, 555, 140, 145, 0, 360), A(200, 190, 200, 190, 110, 325), [(120, 430), (520, 0)], [(360, 80), (480, 330)]]),
    "/": (300, [[(0, -60), (300, 760)]]), "\u00b7": (0, [[(0, 340), (0, 346)]]), "+": (360, [[(0, 340), (360, 340)], [(180, 160), (180, 520)]]),
    "\u00b0": (200, [A(100, 600, 100, 100, 0, 360)]), "(": (120, [A(360, 340, 360, 480, 125, 235)]), ")": (120, [A(-240, 340, 360, 480, -55, 55)]),
}


def points(stroke):
    if stroke[0] != "arc":
        return stroke
    _, cx, cy, rx, ry, a, b = stroke
    n = max(10, int(abs(b - a) / 6))
    return [(cx + rx * math.cos(math.radians(a + (b - a) * i / n)), cy + ry * math.sin(math.radians(a + (b - a) * i / n))) for i in range(n + 1)]


def outline(strokes, scale=1.0):
    parts = []
    for s in strokes:
        pts = [(x * scale + SIDE + PEN / 2, y * scale * (CAP - PEN) / CAP + PEN / 2) for x, y in points(s)]
        parts.append(LineString(pts).buffer(PEN / 2, quad_segs=4, cap_style="round" if len(s) == 2 and pts[0] == pts[1] else "flat", join_style="mitre", mitre_limit=2.2))
        if len(s) == 2 and abs(pts[0][1] - pts[1][1]) <= 8 and abs(pts[0][0] - pts[1][0]) < 1:
            parts[-1] = LineString(pts).buffer(PEN * 0.62, quad_segs=6)
    shape = unary_union(parts).simplify(0.7)
    return [shape] if isinstance(shape, Polygon) else list(shape.geoms)


def draw(polygons, width):
    pen = T2CharStringPen(width, None)
    for p in polygons:
        for k, ring in enumerate([p.exterior, *p.interiors]):
            pts = [(round(x), round(y)) for x, y in ring.coords[:-1]]
            area = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(pts, pts[1:] + pts[:1]))
            if (area > 0) == (k > 0):
                pts.reverse()
            pen.moveTo(pts[0])
            for q in pts[1:]:
                pen.lineTo(q)
            pen.closePath()
    return pen.getCharString()


def build(path):
    glyphs, widths, cmap = {}, {}, {}
    def add(name, code, width, strokes, scale=1.0):
        w = round(width * scale + PEN + 2 * SIDE)
        glyphs[name], widths[name] = draw(outline(strokes, scale), w) if strokes else T2CharStringPen(w, None).getCharString(), (w, 0)
        if code:
            cmap[code] = name
    add(".notdef", 0, 400, [[(0, 0), (0, 700), (400, 700), (400, 0), (0, 0)]])
    add("space", 0x20, 90, [])
    cmap[0xA0] = "space"
    for table in (CAPS, FIGURES, SIGNS):
        for ch, (w, strokes) in table.items():
            add(f"uni{ord(ch):04X}", ord(ch), w, strokes)
    for ch, (w, strokes) in CAPS.items():
        add(f"uni{ord(ch.lower()):04X}", ord(ch.lower()), w, strokes, 0.76)
    fb = FontBuilder(1000, isTTF=False)
    fb.setupGlyphOrder(list(glyphs))
    fb.setupCharacterMap(cmap)
    fb.setupCFF("LarkmoorCaps", {"FullName": "Larkmoor Caps"}, glyphs, {})
    fb.setupHorizontalMetrics(widths)
    fb.setupHorizontalHeader(ascent=820, descent=-180)
    fb.setupOS2(sTypoAscender=820, sTypoDescender=-180, usWinAscent=860, usWinDescent=220, sCapHeight=CAP, sxHeight=532)
    fb.setupNameTable({"familyName": "Larkmoor Caps", "styleName": "Regular", "licenseDescription": "MIT OR Apache-2.0"})
    fb.setupPost()
    fb.font.flavor = "woff2"
    fb.save(path)


if __name__ == "__main__":
    build(sys.argv[1])
