#!/usr/bin/env python3
"""Makes these vectors anew, with libtorrent's Python binding (and mktorrent for one of them).

    apt-get install python3-libtorrent mktorrent
    /usr/bin/python3 spec/vectors/metainfo/make.py

File content is a stream of SHA-256(seed || counter), both 8 bytes big-endian, cut to length, so that
the tests can make it too.
"""
import hashlib, json, os, struct, subprocess, sys, tempfile
import libtorrent as lt

HERE = os.path.dirname(os.path.abspath(__file__))


def content(seed, length):
    out = bytearray()
    counter = 0
    while len(out) < length:
        out += hashlib.sha256(struct.pack(">QQ", seed, counter)).digest()
        counter += 1
    return bytes(out[:length])


SITE = [("index.html", 300, 1), ("css/site.css", 20000, 2), ("img/a.png", 70000, 3), ("img/empty", 0, 4),
        ("js/app.js", 16384, 5), ("js/lib/vendor.js", 32769, 6), ("zz/last.bin", 40000, 7)]
ORDER = [("a/x", 10, 1), ("a-b/x", 20, 2), ("a.txt", 30, 3), ("B", 40, 4), ("b", 50, 5), ("a/Y", 60, 6),
         ("a0", 70, 7), ("a b", 80, 8), ("z/z/z/z", 90, 9)]
NAMES = [("ünï/日本.html", 20000, 1), ("ünï/é.txt", 1, 2), ("q?a=1&b:2", 33, 3), ("con.html", 4, 4)]
TAIL = [("a", 5, 1), ("y", 40000, 2), ("z1", 0, 3), ("z2", 0, 4)]
EQUAL = [("one.bin", 50000, 9), ("two.bin", 50000, 9), ("x/three.bin", 50000, 9)]
MANY = [("d%02d/f%03d" % (i % 7, i), (i * 977) % 40001, i) for i in range(60)]
BIG = [("big.bin", 1_300_001, 8)]
# X: executable. A path: a symlink to there.
X = "x"
TOOLS = [("bin/run", 20000, 1, X), ("bin/empty", 0, 2, X), ("doc/read.me", 33, 3), ("go", 16384, 4, X)]
LINKS = [("a/file", 20000, 1), ("a/link", 0, 2, "a/file"), ("z", 0, 3, "../../etc/passwd")]
EXACT = [("e1", 65536, 1), ("e2", 131072, 2), ("e3", 16384, 3)]

V1 = lt.create_torrent.v1_only
V2 = lt.create_torrent.v2_only
# libtorrent pads the end as well unless told not to; we don't.
HYBRID = lt.create_torrent.canonical_files_no_tail_padding
SYMLINKS = lt.create_torrent.symlinks
PADDED = 0

# name of the vector, torrent's name, files, piece length, flags
CASES = [
    ("site-hybrid-16k", "example.org", SITE, 16384, HYBRID),
    ("site-hybrid-64k", "example.org", SITE, 65536, HYBRID),
    ("site-padded-16k", "example.org", SITE, 16384, PADDED),
    ("site-v2-16k", "example.org", SITE, 16384, V2),
    ("site-v2-64k", "example.org", SITE, 65536, V2),
    ("site-v1-16k", "example.org", SITE, 16384, V1),
    ("order-hybrid-16k", "example.org", ORDER, 16384, HYBRID),
    ("names-hybrid-16k", "localhost:8080", NAMES, 16384, HYBRID),
    ("tail-hybrid-16k", "example.org", TAIL, 16384, HYBRID),
    ("tail-padded-16k", "example.org", TAIL, 16384, PADDED),
    ("tail-v2-16k", "example.org", TAIL, 16384, V2),
    ("equal-hybrid-16k", "example.org", EQUAL, 16384, HYBRID),
    ("many-hybrid-32k", "example.org", MANY, 32768, HYBRID),
    ("big-hybrid-32k", "example.org", BIG, 32768, HYBRID),
    ("big-v2-16k", "example.org", BIG, 16384, V2),
    ("exact-hybrid-64k", "example.org", EXACT, 65536, HYBRID),
    ("tools-hybrid-16k", "example.org", TOOLS, 16384, HYBRID),
    ("tools-v1-16k", "example.org", TOOLS, 16384, V1),
    ("tools-v2-16k", "example.org", TOOLS, 16384, V2),
    ("links-hybrid-16k", "example.org", LINKS, 16384, HYBRID | SYMLINKS),
    ("links-v1-16k", "example.org", LINKS, 16384, V1 | SYMLINKS),
    ("links-v2-16k", "example.org", LINKS, 16384, V2 | SYMLINKS),
    ("single-hybrid-16k", "big.bin", None, 16384, HYBRID),
    ("single-v2-16k", "big.bin", None, 16384, V2),
    ("single-v1-16k", "big.bin", None, 16384, V1),
    ("mktorrent-v1-32k", "example.org", SITE, 32768, "mktorrent"),
]


def make(vector, name, files, piece_length, flags):
    single = files is None
    described = [(name, 123_456, 77)] if single else files
    attributes = {file[0]: file[3] for file in described if len(file) > 3}
    described = [file[:3] for file in described]
    with tempfile.TemporaryDirectory() as tmp:
        for path, length, seed in described:
            full = os.path.join(tmp, path if single else os.path.join(name, path))
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "wb") as f:
                f.write(content(seed, length))
        if flags == "mktorrent":
            torrent = os.path.join(tmp, "out.torrent")
            subprocess.run(["mktorrent", "-d", "-l", str(piece_length.bit_length() - 1), "-o", torrent,
                            "-a", "http://127.0.0.1:6969/announce", os.path.join(tmp, name)],
                           check=True, stdout=subprocess.DEVNULL)
            with open(torrent, "rb") as f:
                raw = f.read()
            maker = "mktorrent"
        else:
            storage = lt.file_storage()
            for path, length, _ in described:
                full = path if single else os.path.join(name, path)
                match attributes.get(path):
                    case None:
                        storage.add_file(full, length)
                    case "x":
                        storage.add_file(full, length, lt.file_storage.flag_executable)
                    case target:
                        storage.add_file(full, length, lt.file_storage.flag_symlink, 0, target)
            create = lt.create_torrent(storage, piece_length, flags=flags)
            create.add_tracker("http://127.0.0.1:6969/announce", 0)
            create.add_tracker("udp://127.0.0.1:6969", 1)
            create.add_url_seed("http://127.0.0.1:8080/")
            lt.set_piece_hashes(create, tmp)
            torrent = create.generate()
            torrent.pop(b"creation date", None)
            raw = lt.bencode(torrent)
            maker = "libtorrent " + lt.__version__
    with open(os.path.join(HERE, vector + ".torrent"), "wb") as f:
        f.write(raw)
    info = lt.torrent_info(lt.bdecode(raw))
    storage = info.files()
    hashes = info.info_hashes()
    listed = []
    for i in range(storage.num_files()):
        path = storage.file_path(i)
        listed.append({
            "path": path[len(name) + 1:] if path.startswith(name + "/") else path,
            "length": storage.file_size(i),
            "offset": storage.file_offset(i),
            "pad": bool(storage.file_flags(i) & lt.file_storage.flag_pad_file),
        })
        for key, flag in [("executable", lt.file_storage.flag_executable), ("symlink", lt.file_storage.flag_symlink)]:
            if storage.file_flags(i) & flag:
                listed[-1][key] = True
    return {
        "torrent": vector + ".torrent",
        "maker": maker,
        "name": info.name(),
        "piece_length": info.piece_length(),
        "pieces": info.num_pieces(),
        "total": info.total_size(),
        "info_hash_v1": str(hashes.v1) if hashes.has_v1() else None,
        "info_hash_v2": str(hashes.v2) if hashes.has_v2() else None,
        "single": storage.file_path(0) == info.name(),
        "files": listed,
        "content": [{"path": p, "length": l, "seed": s} for p, l, s in described],
    }


def main():
    cases = [make(*case) for case in CASES]
    with open(os.path.join(HERE, "expected.json"), "w") as f:
        json.dump(cases, f, indent=1, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    sys.exit(main())
