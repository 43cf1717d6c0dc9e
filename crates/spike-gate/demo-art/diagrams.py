"""Line drawings as SVG: the mark, star charts, plans and graphs."""
import math
import random

INK, GOLD, DIM, BLUE = "#f3e6cf", "#ffb45e", "#8f9bc4", "#7fb0ff"
STYLE = (f"<style>text{{font:13px Georgia,serif;fill:{INK}}}.s{{font-size:11px;fill:{DIM}}}.l{{fill:none;stroke:{DIM};stroke-width:1}}"
         f".g{{fill:none;stroke:{GOLD};stroke-width:2}}.i{{fill:none;stroke:{INK};stroke-width:1.6}}</style>")


def svg(w, h, body, title, ground="#0b1024"):
    bg = f'<rect width="{w}" height="{h}" rx="10" fill="{ground}"/>' if ground else ""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" role="img"><title>{title}</title>{STYLE}{bg}{body}</svg>\n')


def mark():
    return ('<g fill="none" stroke="#f3e6cf" stroke-width="3.2" stroke-linecap="round" stroke-linejoin="round"><path d="M10 50V36a22 22 0 0 1 44 0v14"/>'
            '<path d="M5 50h54M14 57h36"/><path d="M27 36V15.5M37 36V15.5M24 36h16" stroke="#ffb45e"/></g>'
            '<path fill="#ffb45e" d="M50 3l1.9 5.1L57 10l-5.1 1.9L50 17l-1.9-5.1L43 10l5.1-1.9z"/>')


def logo():
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64" role="img"><title>Larkmoor Observatory</title>{mark()}</svg>\n'


def favicon():
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64"><rect width="64" height="64" rx="14" fill="#0b1024"/>{mark()}</svg>\n'


WINTER = {
    "Orion": [("Betelgeuse", 5.92, 7.4, 1), ("Bellatrix", 5.42, 6.35, 2), ("", 5.53, -.3, 2), ("", 5.6, -1.2, 2), ("", 5.68, -1.94, 2), ("Rigel", 5.24, -8.2, 1), ("", 5.8, -9.67, 2), ("", 5.585, 9.93, 3)],
    "Taurus": [("Aldebaran", 4.6, 16.5, 1), ("", 4.33, 15.6, 3), ("", 4.48, 19.2, 3), ("", 5.44, 28.6, 2), ("", 5.63, 21.1, 3)],
    "Gemini": [("Castor", 7.58, 31.9, 2), ("Pollux", 7.755, 28.0, 1), ("", 6.63, 16.4, 2), ("", 6.73, 25.1, 3), ("", 6.38, 22.5, 3), ("", 7.335, 22, 3)],
    "Auriga": [("Capella", 5.28, 46, 1), ("", 5.99, 44.9, 2), ("", 5.995, 37.2, 3), ("", 4.95, 33.2, 3), ("", 5.44, 28.6, 2)],
    "Canis Major": [("Sirius", 6.75, -16.7, 0), ("", 6.38, -17.96, 2), ("", 7.14, -26.4, 2), ("", 6.98, -28.97, 2), ("", 7.4, -29.3, 3)],
    "Canis Minor": [("Procyon", 7.655, 5.2, 1), ("", 7.45, 8.3, 3)],
}
WINTER_LINES = {"Orion": [(7, 0), (7, 1), (0, 4), (1, 2), (2, 3), (3, 4), (2, 5), (4, 6), (5, 6), (0, 1)], "Taurus": [(1, 0), (1, 2), (0, 4), (2, 3)], "Gemini": [(0, 3), (3, 4), (1, 5), (5, 2), (0, 1)],
                "Auriga": [(0, 1), (1, 2), (2, 4), (4, 3), (3, 0)], "Canis Major": [(0, 1), (0, 2), (2, 3), (2, 4)], "Canis Minor": [(0, 1)]}
SUMMER = {
    "Cygnus": [("Deneb", 20.69, 45.3, 1), ("Sadr", 20.37, 40.3, 2), ("Albireo", 19.51, 27.96, 3), ("", 20.77, 33.97, 2), ("", 19.75, 45.1, 3)],
    "Lyra": [("Vega", 18.615, 38.8, 0), ("", 18.75, 37.6, 3), ("", 18.83, 33.4, 3), ("", 18.98, 32.7, 3), ("", 18.91, 36.9, 3)],
    "Aquila": [("Altair", 19.85, 8.9, 1), ("", 19.77, 10.6, 2), ("", 19.92, 6.4, 3), ("", 19.09, 13.9, 3), ("", 19.42, 3.1, 3), ("", 19.1, -4.9, 3), ("", 20.19, -.8, 3)],
    "Delphinus": [("", 20.66, 15.9, 3), ("", 20.62, 14.6, 3), ("", 20.777, 16.1, 3), ("", 20.72, 15.1, 3), ("", 20.55, 11.3, 3)],
    "Sagitta": [("", 19.98, 19.5, 3), ("", 19.79, 18.5, 3), ("", 19.67, 18, 3), ("", 19.68, 17.5, 3)],
}
SUMMER_LINES = {"Cygnus": [(0, 1), (1, 2), (1, 3), (1, 4)], "Lyra": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 1)], "Aquila": [(1, 0), (0, 2), (0, 4), (4, 3), (4, 5), (2, 6)], "Delphinus": [(0, 1), (1, 3), (3, 2), (2, 0), (1, 4)], "Sagitta": [(0, 1), (1, 2), (1, 3)]}


def chart(figures, lines, title, seed):
    pts = [s for f in figures.values() for s in f]
    ra0, de0 = sum(p[1] for p in pts) / len(pts), (min(p[2] for p in pts) + max(p[2] for p in pts)) / 2
    span = max(max(p[2] for p in pts) - min(p[2] for p in pts), 1) + 18
    w, h = 720, 720
    k = h / span
    P = lambda ra, de: (w / 2 - (ra - ra0) * 15 * k * 0.92, h / 2 - (de - de0) * k)
    rng = random.Random(seed)
    b = "".join(f'<circle cx="{rng.uniform(20, w - 20):.0f}" cy="{rng.uniform(20, h - 20):.0f}" r="{rng.choice([.6, .8, 1.1])}" fill="{DIM}" opacity=".7"/>' for _ in range(170))
    for d in range(-90, 91, 15):
        y = P(0, d)[1]
        if 10 < y < h - 10:
            b += f'<path class="l" opacity=".35" stroke-dasharray="2 6" d="M16 {y:.0f}H{w - 16}"/><text class="s" x="20" y="{y - 4:.0f}">{d:+d}°</text>'
    for name, f in figures.items():
        for i, j in lines[name]:
            (x1, y1), (x2, y2) = P(*f[i][1:3]), P(*f[j][1:3])
            b += f'<path stroke="{BLUE}" stroke-width="1.2" opacity=".75" d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
        for n, ra, de, m in f:
            x, y = P(ra, de)
            b += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6.4 - 1.45 * m:.1f}" fill="{INK}"/>'
            if n:
                b += f'<text x="{x + 10:.0f}" y="{y + 4:.0f}">{n}</text>'
        cx, cy = sum(P(*s[1:3])[0] for s in f) / len(f), max(P(*s[1:3])[1] for s in f)
        b += f'<text x="{cx:.0f}" y="{cy + 26:.0f}" text-anchor="middle" style="font-size:15px;letter-spacing:3px;fill:{GOLD}">{name.upper()}</text>'
    return svg(w, h, b, title)


def moon_calendar():
    b, w = "", 700
    for d in range(28):
        x, y, ph = 55 + (d % 7) * 98, 60 + (d // 7) * 96, (d + 0.5) / 28
        r, c = 30, math.cos(2 * math.pi * ph)
        sweep = 1 if ph < 0.5 else 0
        inner = (0 if c > 0 else 1) if ph < 0.5 else (1 if c > 0 else 0)
        b += f'<circle cx="{x}" cy="{y}" r="{r}" fill="#161d3b"/><path fill="{INK}" d="M{x} {y - r}A{r} {r} 0 0 {sweep} {x} {y + r}A{abs(c) * r:.1f} {r} 0 0 {inner} {x} {y - r}"/><text class="s" x="{x}" y="{y + 46}" text-anchor="middle">night {d + 1}</text>'
    return svg(w, 410, b, "The Moon's face on each of 28 nights")


def refractor():
    b = (f'<g transform="rotate(-24 400 220)"><path class="i" d="M150 190h390v60H150zM540 178h70v84h-70zM110 204h40v32h-40zM70 210h40v20H70z"/>'
         f'<path d="M596 182c12 20 12 56 0 76c-10-20-10-56 0-76z" fill="{BLUE}" opacity=".55" stroke="{INK}"/><path d="M84 212c5 6 5 10 0 16" class="g"/>'
         f'<path stroke="{GOLD}" stroke-width="1.4" fill="none" d="M760 190H600L90 221M760 250H600L90 219" opacity=".9"/></g>'
         '<path class="i" d="M392 250l-24 180h84l-24-180zM340 430h140M396 214a18 18 0 1 0 28 8"/><path class="i" d="M452 300l60 66h22" stroke-dasharray="3 4"/>'
         f'<g><text x="610" y="60">Objective, 230 mm</text><text class="s" x="610" y="78">crown and flint, two lenses</text><text x="40" y="400">Eyepiece</text><text class="s" x="40" y="418">40 to 300 times</text>'
         f'<text x="500" y="390">Clock drive</text><text class="s" x="500" y="408">falling weight, wound by hand</text><text x="180" y="130">Tube, 3.4 m of riveted steel</text></g>')
    return svg(800, 470, b, "The Long Tom refractor, cut open")


def floor():
    b = ('<circle class="i" cx="220" cy="220" r="150"/><circle class="l" cx="220" cy="220" r="128"/><circle class="g" cx="220" cy="220" r="26"/><path class="i" d="M340 130h300v190H340M470 130v110M470 240h170M470 290v30M340 185v-55M340 320v-60"/>'
         '<path class="l" stroke-dasharray="4 4" d="M120 330q-50 60 20 90h420"/>'
         '<text x="220" y="176" text-anchor="middle">Dome</text><text class="s" x="220" y="268" text-anchor="middle">the Long Tom</text><text x="404" y="226" text-anchor="middle">Hall</text><text class="s" x="404" y="244" text-anchor="middle">tickets, cocoa</text>'
         '<text x="555" y="184" text-anchor="middle">Library</text><text class="s" x="555" y="202" text-anchor="middle">1,900 books</text><text x="555" y="280" text-anchor="middle">Workshop</text><text class="s" x="555" y="298" text-anchor="middle">mirrors on Tuesdays</text><text class="s" x="350" y="412" text-anchor="middle">step-free path to the meadow</text>')
    return svg(680, 450, b, "Floor plan")


def light_curve():
    rng = random.Random(4)
    pts, b = [], '<path class="l" d="M70 30V330H690"/>'
    f = lambda p: 2.3 + 1.25 * math.exp(-((p - .5) / .045) ** 2) + 0.12 * math.exp(-((p - 1.0) / .05) ** 2) + 0.12 * math.exp(-(p / .05) ** 2)
    Y = lambda m: 50 + (m - 2) * 150
    for i in range(150):
        p = rng.uniform(0, 1)
        b += f'<circle cx="{70 + p * 610:.1f}" cy="{Y(f(p) + rng.gauss(0, .045)):.1f}" r="2.4" fill="{BLUE}" opacity=".85"/>'
    d = "M" + "L".join(f"{70 + i / 200 * 610:.1f} {Y(f(i / 200)):.1f}" for i in range(201))
    b += f'<path class="g" d="{d}"/>' + "".join(f'<text class="s" x="60" y="{Y(m) + 4:.0f}" text-anchor="end">{m:.1f}</text>' for m in (2, 2.5, 3, 3.5))
    b += "".join(f'<text class="s" x="{70 + q * 152.5:.0f}" y="350" text-anchor="middle">{q * .717:.1f} d</text>' for q in range(5))
    return svg(720, 370, b + '<text x="90" y="300">Algol, measured by the school club: 150 nights in one curve</text>', "Light curve of Algol")


def town_map():
    rng = random.Random(9)
    b = ""
    for i in range(7):
        r = 60 + i * 26
        p = [(430 + (r * 1.25) * math.cos(a) * (1 + .08 * math.sin(3 * a + i)), 150 + r * .8 * math.sin(a) * (1 + .1 * math.sin(2 * a + 1))) for a in [k * math.pi / 24 for k in range(49)]]
        b += f'<path class="l" opacity="{.75 - i * .09:.2f}" d="M' + "L".join(f"{x:.0f} {y:.0f}" for x, y in p) + 'Z"/>'
    b += f'<path fill="none" stroke="{BLUE}" stroke-width="5" opacity=".5" d="M0 390C140 340 220 420 360 380S600 330 720 372"/><path fill="none" stroke="{INK}" stroke-width="3" d="M0 330C120 310 180 290 230 300S330 250 360 200S410 160 430 150"/><path fill="none" stroke="{INK}" stroke-width="3" d="M230 300C300 330 500 300 720 310"/>'
    for _ in range(34):
        x, y = rng.gauss(215, 46), rng.gauss(318, 14)
        b += f'<rect x="{x:.0f}" y="{y:.0f}" width="9" height="7" fill="{DIM}"/>'
    b += f'<g transform="translate(408 112) scale(.7)">{mark()}</g><text x="462" y="142">Larkmoor Observatory</text><text class="s" x="462" y="160">412 m above the sea</text><text x="150" y="276">Larkmoor town</text><text class="s" x="300" y="236">Lantern Lane, 25 min on foot</text><text class="s" x="560" y="300">to the railway halt</text><text class="s" x="560" y="398">River Lark</text>'
    return svg(720, 440, b, "How to find the observatory")


def comet_path():
    b = f'<circle cx="300" cy="210" r="15" fill="{GOLD}"/>'
    for r, n in ((62, "Mercury"), (98, "Venus"), (138, "Earth"), (200, "Mars")):
        b += f'<ellipse class="l" cx="300" cy="210" rx="{r}" ry="{r * .8:.0f}"/><text class="s" x="{300 - r * .72:.0f}" y="{210 - r * .62:.0f}" text-anchor="end">{n}</text>'
    b += f'<path class="g" d="M700 20C420 80 250 130 238 208S420 330 700 410" /><circle cx="420" cy="134" r="6" fill="{BLUE}"/>'
    for x, y, t, dy in ((560, 68, "August", -12), (438, 113, "September", -12), (289, 160, "4 October", -14), (262, 254, "19 October, nearest the Sun", 28), (430, 336, "November", 22)):
        a = math.atan2(y - 210, x - 300)
        ln = 9000 / math.hypot(x - 300, y - 210) ** 1.05
        b += f'<path stroke="{BLUE}" stroke-width="3" opacity=".7" d="M{x} {y}l{ln * math.cos(a):.0f} {ln * math.sin(a):.0f}"/><circle cx="{x}" cy="{y}" r="5" fill="{INK}"/><text class="s" x="{x + 10}" y="{y + dy}">{t}</text>'
    return svg(720, 430, b, "The path of comet Aldous-Wren")


def all_drawings():
    return {"logo": logo(), "favicon": favicon(), "chart-winter": chart(WINTER, WINTER_LINES, "The winter sky, looking south", 1), "chart-summer": chart(SUMMER, SUMMER_LINES, "The summer triangle", 2),
            "moon-calendar": moon_calendar(), "refractor": refractor(), "floor": floor(), "light-curve": light_curve(), "map": town_map(), "comet-path": comet_path()}
