#!/usr/bin/env python3
"""Makes merkle.json: trees of BEP 52 by their definition, with the standard library only.

A file of `blocks` blocks has as its nth leaf SHA-256 of n as 4 bytes big-endian (so that no content is needed).
`answers` are what a peer answers to a hash request: the hashes asked for, then the uncles from the lowest up.
"""
import hashlib, json, os

HERE = os.path.dirname(os.path.abspath(__file__))


def sha(data):
    return hashlib.sha256(data).digest()


def tree(blocks):
    """All levels, leaves first, filled with zero leaves to a power of two."""
    width = 1
    while width < blocks:
        width *= 2
    level = [sha(n.to_bytes(4, "big")) for n in range(blocks)] + [bytes(32)] * (width - blocks)
    levels = [level]
    while len(level) > 1:
        level = [sha(level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        levels.append(level)
    return levels


def answer(levels, base, index, length, proof_layers):
    out = list(levels[base][index:index + length])
    own = length.bit_length() - 1
    # BEP 52: the hashes themselves give the first layers; uncles begin at the sibling of their root.
    level, node = base + own, index >> own
    for _ in range(max(0, proof_layers - (own - 1))):
        out.append(levels[level][node ^ 1])
        level, node = level + 1, node >> 1
    return out


def main():
    cases = []
    for blocks in (1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33, 100):
        levels = tree(blocks)
        height = len(levels) - 1
        answers = []
        for base in range(height):
            for length in (2, 4, 8):
                for index in (0, length, 3 * length):
                    if index + length <= len(levels[base]):
                        # To the root, and one layer less where there is one.
                        for proof_layers in {max(0, height - base - 1), max(0, height - base - 2)}:
                            answers.append({
                                "base": base, "index": index, "length": length, "proof_layers": proof_layers,
                                "hashes": [h.hex() for h in answer(levels, base, index, length, proof_layers)],
                            })
        pieces = []
        for level in range(1, min(height, 4)):
            used = -(-blocks // (1 << level))
            pieces.append({"piece_length": 16384 << level, "layer": [h.hex() for h in levels[level][:used]]})
        cases.append({"blocks": blocks, "height": height, "root": levels[-1][0].hex(), "layers": pieces,
                      "answers": answers[:16]})
    with open(os.path.join(HERE, "merkle.json"), "w") as f:
        json.dump(cases, f, indent=0)
        f.write("\n")


if __name__ == "__main__":
    main()
