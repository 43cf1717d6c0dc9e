#!/usr/bin/python3
"""Seeds or fetches with Debian's libtorrent, TCP on loopback only, and tells it as lines of JSON.

    lt.py seed  TORRENT --data DIR [--tracker URL]
    lt.py fetch TORRENT|MAGNET --out DIR [--peer IP:PORT]... [--tracker URL] [--seconds N]

TORRENT may be given several times. Events: listening {peer}, complete {seconds, name}, then (seed) until killed.
"""
import argparse
import json
import sys
import time

try:
    import libtorrent as lt
except ImportError:
    sys.exit("libtorrent's Python module is missing: apt-get install python3-libtorrent")

parser = argparse.ArgumentParser()
parser.add_argument("role", choices=["seed", "fetch"])
parser.add_argument("what", nargs="+")
parser.add_argument("--data", "--out", dest="data", required=True)
parser.add_argument("--peer", action="append", default=[])
parser.add_argument("--tracker", action="append", default=[])
parser.add_argument("--seconds", type=float, default=120)
args = parser.parse_args()


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


session = lt.session({
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_utp": False,
    "enable_outgoing_utp": False,
    "allow_multiple_connections_per_ip": True,
    "min_reconnect_time": 1,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.tracker_notification,
})
handles = []
for what in args.what:
    if what.startswith("magnet:"):
        params = lt.parse_magnet_uri(what)
    else:
        params = lt.add_torrent_params()
        params.ti = lt.torrent_info(what)
    params.save_path = args.data
    if args.tracker:
        params.trackers = args.tracker
    handles.append(session.add_torrent(params))
tell("listening", peer=f"127.0.0.1:{session.listen_port()}")

for handle in handles:
    for peer in args.peer:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))

INCONSISTENT_HASHES = 217
rechecks = {}
began = time.monotonic()
done = set()
redial = began
while time.monotonic() - began < args.seconds or (args.role == "seed" and len(done) == len(handles)):
    for alert in session.pop_alerts():
        print(alert, file=sys.stderr, flush=True)
    for index, handle in enumerate(handles):
        status = handle.status()
        # libtorrent 2.0.8 fails so now and then when hashes of a hybrid come after the piece they are for,
        # between two libtorrents too (its issue 6394). Its users then press "recheck", and so do we.
        if status.errc.value() == INCONSISTENT_HASHES and rechecks.setdefault(index, 0) < 5:
            rechecks[index] += 1
            handle.clear_error()
            handle.force_recheck()
            handle.resume()
            continue
        if status.errc.value():
            sys.exit(f"{args.what[index]}: {status.errc.message()}")
        if index not in done and status.is_seeding:
            done.add(index)
            handle.flush_cache()
            tell("complete", name=status.name, seconds=round(time.monotonic() - began, 3))
    if args.role == "fetch" and len(done) == len(handles):
        time.sleep(0.5)  # "finished" comes before the last bytes are in the file
        sys.exit(0)
    if args.role == "fetch" and time.monotonic() - redial > 5:
        redial = time.monotonic()
        for handle in handles:
            for peer in args.peer:
                host, port = peer.rsplit(":", 1)
                handle.connect_peer((host, int(port)))
    time.sleep(0.05)
for index, handle in enumerate(handles):
    if index not in done:
        status = handle.status()
        print(f"{args.what[index]}: {status.state} {status.progress:.3f}, {status.num_peers} peers", file=sys.stderr)
sys.exit("not complete in time")
