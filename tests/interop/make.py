#!/usr/bin/python3
"""Makes a torrent with Debian's libtorrent.

    make.py v1|v2|hybrid CONTENT TORRENT [--web-seed URL]

Prints one line of JSON: the info hashes as hex, null for one that the torrent lacks.
"""
import argparse
import json
import os

import libtorrent as lt

PIECE_LENGTH = 32 * 1024

parser = argparse.ArgumentParser()
parser.add_argument("kind", choices=["v1", "v2", "hybrid"])
parser.add_argument("content")
parser.add_argument("torrent")
parser.add_argument("--web-seed", action="append", default=[])
args = parser.parse_args()

files = lt.file_storage()
lt.add_files(files, args.content, lambda path: "/.pad" not in path)
flags = {"v1": lt.create_torrent.v1_only, "v2": lt.create_torrent.v2_only, "hybrid": 0}[args.kind]
torrent = lt.create_torrent(files, PIECE_LENGTH, flags=flags)
for url in args.web_seed:
    torrent.add_url_seed(url)
lt.set_piece_hashes(torrent, os.path.dirname(os.path.abspath(args.content)))
with open(args.torrent, "wb") as out:
    out.write(lt.bencode(torrent.generate()))
hashes = lt.torrent_info(args.torrent).info_hashes()
print(json.dumps({
    "v1": str(hashes.v1) if hashes.has_v1() else None,
    "v2": str(hashes.v2) if hashes.has_v2() else None,
}))
