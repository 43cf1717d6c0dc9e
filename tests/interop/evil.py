#!/usr/bin/python3
"""Writes a v1 torrent of names that want out of their folder; its content goes to standard output.

    evil.py TORRENT
"""
import hashlib
import sys

NAMES = [
    ["..", "evil"],
    ["..", "..", "..", "..", "..", "..", "etc", "evil"],
    ["/etc/evil"],
    ["/", "etc", "evil2"],
    ["a/../../evil3"],
    ["a\\..\\..\\evil4"],
    ["."],
    [".."],
    ["", "empty"],
    ["con"],
    ["nul.txt"],
    ["trailing. "],
    ["n\0ul"],
    ["new\nline"],
    ["\u202eexe.txt"],
    ["Same"],
    ["same"],
    ["x" * 255],
    ["deep"] * 20,
    ["C:\\evil5"],
]
PIECE = 16384


def bencode(value):
    if isinstance(value, int):
        return b"i%de" % value
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return b"%d:%s" % (len(value), value)
    if isinstance(value, list):
        return b"l" + b"".join(map(bencode, value)) + b"e"
    return b"d" + b"".join(bencode(key) + bencode(value[key]) for key in sorted(value)) + b"e"


content = bytes(range(256)) * (len(NAMES) * 4)
size = len(content) // len(NAMES)
pieces = b"".join(hashlib.sha1(content[at:at + PIECE]).digest() for at in range(0, len(content), PIECE))
info = {
    "name": "../../evil-top",
    "piece length": PIECE,
    "pieces": pieces,
    "files": [{"length": size, "path": name} for name in NAMES],
}
with open(sys.argv[1], "wb") as out:
    out.write(bencode({"info": info}))
sys.stdout.buffer.write(content)
