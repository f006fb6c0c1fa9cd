#!/usr/bin/env python3
"""Recomputes drawn sales, independently of Tidegate: only this file and Python's standard library.

    python3 verify_draw.py sale/transcript.json [more/transcript.json ...]

Written from the protocol's text alone. It checks promise, list, seed and every place; signatures are left to others (Ed25519
and the beacon's BLS are not in the standard library), so it proves what was drawn, not who said it.
"""
import hashlib
import hmac
import json
import os
import sys


def H(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def mac(key, *parts):
    return hmac.new(key, b"".join(parts), hashlib.sha256).digest()


def be32(n):
    return n.to_bytes(4, "big")


def be64(n):
    return n.to_bytes(8, "big")


def lp(x):
    return be32(len(x)) + x


def merkle(leaves):
    if not leaves:
        return H(b"")
    if len(leaves) == 1:
        return leaves[0]
    split = 1 << (len(leaves) - 1).bit_length() - 1
    return H(b"\x01", merkle(leaves[:split]), merkle(leaves[split:]))


def hkdf(ikm, salt, info):
    return mac(mac(salt, ikm), info, b"\x01")


def canonical(value):
    # RFC 8785 for what rules are made of: short numbers, plain texts.
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def check(path):
    """What does not hold, as a list of words; empty when the draw is right."""
    with open(path, encoding="utf-8") as f:
        t = json.load(f)
    with open(os.path.join(os.path.dirname(path), os.path.basename(t["entries"])), encoding="ascii") as f:
        lines = f.read().split("\n")
    wrong = []
    if t["version"] != 1 or lines[0] != "index,entry_id,weight,place" or lines[-1] != "":
        wrong.append("format")
    rows = [line.split(",") for line in lines[1:-1]]
    if [int(r[0]) for r in rows] != list(range(t["n"])):
        wrong.append("count")
    ids = [bytes.fromhex(r[1]) for r in rows]
    weights = [int(r[2]) for r in rows]
    rules = json.loads(t["rules_json"])
    if canonical(rules) != t["rules_json"] or H(b"tidegate/1/rules", lp(t["rules_json"].encode())).hex() != t["rules"]:
        wrong.append("rules")
    k, commitment = bytes.fromhex(t["secret"]), bytes.fromhex(t["commitment"])
    first, name = k, t["sale_id"].encode()
    for _ in range(t.get("window", 0)):
        first = H(b"tidegate/1/chain", first)
    if H(b"tidegate/1/commit", lp(name), bytes.fromhex(t["rules"]), first) != commitment:
        wrong.append("commitment")
    if "window" in t:
        name += b"#%d" % t["window"]
    if any(w not in rules["weights"].values() for w, i in zip(weights, ids) if any(i)):
        wrong.append("weight")
    leaves = [H(b"\x00tidegate/1/entry", lp(name), be64(i), ids[i], be32(weights[i])) for i in range(len(rows))]
    root = merkle(leaves)
    if root.hex() != t["root"]:
        wrong.append("root")
    beacon = t["beacon"]
    if (beacon is None) != (rules.get("beacon") is None) or beacon and beacon["source"] != rules["beacon"]["source"]:
        wrong.append("beacon")
    elif beacon:
        genesis, period = (1692803367, 3) if beacon["source"] == "drand-quicknet" else (1, 1)
        at = max(t["frozen_at"] + rules["beacon"]["delay_s"] - genesis, 0)
        if beacon["round"] != 1 + -(-at // period):
            wrong.append("round")
    value = bytes.fromhex(beacon["value"]) if beacon else b""
    seed = hkdf(k, bytes.fromhex(t["root"]), b"tidegate/1/draw" + lp(name) + commitment + be64(t["n"]) + lp(value))
    if seed.hex() != t["seed"]:
        wrong.append("seed")
    live = [i for i in range(len(rows)) if any(ids[i])]
    drawn = [(min(mac(seed, be64(i), be32(b)) for b in range(weights[i])), i) for i in live if weights[i]]
    order = [i for _, i in sorted(drawn)] + [i for i in live if not weights[i]]
    places = {i: str(place) for place, i in enumerate(order)}
    if any(r[3] != places.get(i, "") for i, r in enumerate(rows)):
        wrong.append("place")
    return wrong


def main(paths):
    if not paths:
        sys.exit(__doc__)
    bad = 0
    for path in paths:
        wrong = check(path)
        bad += bool(wrong)
        print(f"{path}: {'WRONG ' + ', '.join(wrong) if wrong else 'good'}")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
