#!/usr/bin/python3
"""Exchanges every kind of torrent with rqbit both ways and writes the table of what came of it.

    rqbit.py --rqbit PROGRAM --bin DIR [--table FILE] [--keep]

`tests/interop/long` runs it. DIR holds swarm-peer and swarm-tracker. Ours and rqbit are in two network namespaces
joined by a wire; for uTP the wire drops TCP between peers. Every file is compared by SHA-256. What is known not to work
is tried all the same, and rqbit must give the reason in known words: else the cell fails, and this file is to be mended.
--keep leaves the folder with contents and logs. Ends with failure when a cell failed.
"""
import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
OURS, THEIRS = "10.99.0.1", "10.99.0.2"
# TCP to these passes where peers must speak uTP: trackers.
SERVICES = (2000, 2999)
PATIENCE = 60
KINDS = ["v1", "v2", "hybrid"]
STARTS = [".torrent", "magnet"]
COLUMNS = [(way, wire) for wire in ("TCP", "uTP") for way in ("ours seeds", "ours fetches")]
# Sizes around blocks and pieces; v1 without padding runs pieces across files.
FILES = {"a.bin": 1_000_003, "b/one": 1, "b/empty": 0, "c.bin": 16_384, "d.bin": 700_001, "e/f/g.bin": 3 * 32_768,
         "z.bin": 1_300_007}

HEAD = """\
# Interop with rqbit

Written by `tests/interop/long`; don't edit. Every file of every exchange is compared by SHA-256.

rqbit is from crates.io, with DHT and local discovery off and, in the columns of uTP, with its experimental flag for that and without TCP; it makes no padding files and needs none. The namespaces are as in [README.md](README.md). What does not work was tried, too, and rqbit gave the reason: it refuses v2 torrents. It hangs up on a request for less than a whole block inside a torrent, so of clients like it ours asks for the padding behind a file, too (spec 0004); the content has such.

"""


class Failed(Exception):
    """Why a cell failed."""


class Wire:
    """Two namespaces and what joins them."""

    def __init__(self):
        stem = f"rq{os.getpid()}"
        self.ours, self.theirs = stem + "o", stem + "t"

    def __enter__(self):
        for name in (self.ours, self.theirs):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", self.ours, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", self.theirs)
        for name, address in ((self.ours, OURS), (self.theirs, THEIRS)):
            ip("-n", name, "addr", "add", address + "/24", "dev", "wire")
            ip("-n", name, "link", "set", "wire", "up")
            ip("-n", name, "route", "add", "default", "dev", "wire")
        return self

    def __exit__(self, *_):
        for name in (self.ours, self.theirs):
            subprocess.run(["ip", "netns", "del", name], check=False)

    def drop_tcp(self):
        ports = "%d-%d" % SERVICES
        for name in (self.ours, self.theirs):
            ip("netns", "exec", name, "nft",
               "add table inet t; add chain inet t in { type filter hook input priority 0; }; "
               f"add rule inet t in iif wire tcp dport != {ports} tcp sport != {ports} reject with tcp reset")


def ip(*args):
    subprocess.run(["ip", *args], check=True)


class Proc:
    """A program in a namespace; killed at the end of its `with`."""

    def __init__(self, namespace, log, *command):
        self.log, self.name = log, os.path.basename(command[0])
        env = {**os.environ, "NO_COLOR": "1", "HOME": os.path.dirname(log)}
        # It would overrule rqbit's -v.
        env.pop("RUST_LOG", None)
        with open(log, "wb") as out:
            self.child = subprocess.Popen(["ip", "netns", "exec", namespace, *command], stdin=subprocess.DEVNULL,
                                          stdout=out, stderr=out, env=env)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.kill()
        self.child.wait()

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def tail(self):
        return self.said()[-3000:]

    def says(self, words):
        """Waits until it has said this."""
        end = time.monotonic() + PATIENCE
        while True:
            ended = self.child.poll() is not None
            if words in self.said():
                return
            if ended or time.monotonic() > end:
                raise Failed(f"{self.name} never said {words!r}:\n{self.tail()}")
            time.sleep(0.05)

    def end(self):
        """Waits for its end and returns its status."""
        try:
            return self.child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} runs on:\n{self.tail()}") from None


def digests(folder):
    """The SHA-256 of every file below the folder."""
    found = {}
    for at, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(at, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = hashlib.sha256(file.read()).hexdigest()
    return found


class Stage:
    """Content, and torrents of it of every kind."""

    def __init__(self, scratch):
        self.data = os.path.join(scratch, "data")
        content = os.path.join(self.data, "content")
        for path, length in FILES.items():
            path = os.path.join(content, path)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as out:
                out.write(random.Random(length).randbytes(length))
        self.truth = digests(content)
        self.torrents = {}
        for kind in KINDS:
            path = os.path.join(scratch, kind + ".torrent")
            made = subprocess.run([sys.executable, os.path.join(HERE, "make.py"), kind, content, path], check=True, stdout=subprocess.PIPE)
            with open(path, "rb") as file:
                self.torrents[kind] = file.read(), json.loads(made.stdout)


# What rqbit says of a v2 torrent, by what it is given.
REFUSALS = {".torrent": "missing field `pieces`", "magnet": "magnet link didn't contain a BTv1 infohash"}


def run(cell, number, args, scratch, stage, wire):
    """One exchange."""
    kind, start, (way, transport) = cell
    home = os.path.join(scratch, f"cell-{number}")
    out = os.path.join(home, "out")
    os.makedirs(out)
    bytes_, hashes = stage.torrents[kind]
    tracker = f"{OURS}:{SERVICES[0] + number}"
    announce = f"http://{tracker}/announce"
    torrent = os.path.join(home, "it.torrent")
    with open(torrent, "wb") as file:
        # "announce" sorts before every key that libtorrent writes here.
        file.write(b"d8:announce%d:%s" % (len(announce), announce.encode()) + bytes_[1:])
    topics = [f"xt=urn:btih:{hashes['v1']}"] if hashes["v1"] else []
    topics += [f"xt=urn:btmh:1220{hashes['v2']}"] if hashes["v2"] else []
    leech_gets = torrent if start == ".torrent" else "magnet:?" + "&".join(topics + ["tr=" + announce])
    port = 20_000 + number
    our_addr, their_addr = f"{OURS}:{port}", f"{THEIRS}:{port}"

    def ours(log, program, *more):
        return Proc(wire.ours, os.path.join(home, log), os.path.join(args.bin, program), *more)

    def peer(*more):
        utp = "only" if transport == "uTP" else "off"
        return ours("ours.log", "swarm-peer", *more, "--json", "--listen", our_addr, "--utp", utp,
                    "--state", os.path.join(home, "state"))

    def rqbit(what, folder, *more):
        flags = ["--disable-dht", "--disable-lsd", "--disable-upnp-port-forward", "--tracker-refresh-interval", "2s",
                 "--listen-ip", THEIRS, "--listen-port", str(port), "-v", "debug"]
        if transport == "uTP":
            flags += ["--experimental-enable-utp-listen", "--disable-tcp-listen", "--disable-tcp-connect"]
        return Proc(wire.theirs, os.path.join(home, "rqbit.log"), args.rqbit, *flags, "download", "--disable-http-api",
                    "--overwrite", "--output-folder", folder, *more, what)

    rqbit_gets = leech_gets if way == "ours seeds" else torrent
    if kind == "v2":
        with rqbit(rqbit_gets, out) as client:
            client.says(REFUSALS[".torrent" if rqbit_gets == torrent else start])
            if client.end() == 0:
                raise Failed(f"rqbit refused nothing:\n{client.tail()}")
        return "cannot: client knows no v2"
    with ours("tracker.log", "swarm-tracker", "run", "--json", "--open", "--interval", "5s", "--http", tracker) as services:
        services.says('"listening"')
        if way == "ours seeds":
            with peer("seed", torrent, "--data", stage.data) as seed:
                seed.says('"seeding"')
                with rqbit(rqbit_gets, out, "--exit-on-finish", "--initial-peers", our_addr) as leech:
                    status = leech.end()
                    if status != 0:
                        raise Failed(f"rqbit ended with {status}:\n{leech.tail()}\n--- ours\n{seed.tail()}")
        else:
            with rqbit(rqbit_gets, stage.data) as seed:
                seed.says("needed 0,")
                with peer("fetch", leech_gets, "--out", out, "--peer", their_addr) as leech:
                    leech.says('"complete"')
                    status = leech.end()
                    if status != 0:
                        raise Failed(f"ours ended with {status}:\n{leech.tail()}")
    found = digests(os.path.join(out, "content"))
    if found != stage.truth:
        differ = sorted(path for path in {*found, *stage.truth} if found.get(path) != stage.truth.get(path))
        raise Failed("not the content: " + ", ".join(differ))
    return "yes"


def table(version, outcomes):
    rows = ["| client | torrent | leech starts from | " + " | ".join(", ".join(column) for column in COLUMNS) + " |",
            "| --- " * (3 + len(COLUMNS)) + "|"]
    for kind, start in itertools.product(KINDS, STARTS):
        cells = [outcomes[kind, start, column] for column in COLUMNS]
        rows.append(f"| {version} | {kind} | {start} | " + " | ".join(cells) + " |")
    return HEAD + "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rqbit", required=True)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--table")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    # So that every `with` ends what it began.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    said = subprocess.run([args.rqbit, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    version = said.stdout.strip()
    scratch = tempfile.mkdtemp(prefix="rqbit-")
    outcomes, failed = {}, 0
    # All of TCP first: then the wire drops it.
    order = sorted(itertools.product(KINDS, STARTS, COLUMNS), key=lambda cell: cell[2][1] == "uTP")
    try:
        stage = Stage(scratch)
        with Wire() as wire:
            dropped = False
            for number, cell in enumerate(order):
                kind, start, (way, transport) = cell
                if transport == "uTP" and not dropped:
                    wire.drop_tcp()
                    dropped = True
                began = time.monotonic()
                try:
                    outcome = run(cell, number, args, scratch, stage, wire)
                except Failed as why:
                    outcome, failed = "**FAILS**", failed + 1
                    print(why, file=sys.stderr)
                outcomes[cell] = outcome
                print(f"{kind} by {start} over {transport}, {way}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    finally:
        if args.keep:
            print(scratch)
        else:
            shutil.rmtree(scratch)
    text = table(version, outcomes)
    if args.table:
        with open(args.table, "w", encoding="utf-8") as out:
            out.write(text)
    whole = list(outcomes.values()).count("yes")
    print(f"{whole} exchanges whole, {len(outcomes) - whole - failed} not for known reasons, {failed} failed")
    sys.exit(1 if failed else 0)


main()
