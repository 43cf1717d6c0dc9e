#!/usr/bin/python3
"""Seeds or fetches with Debian's libtorrent and tells it as lines of JSON.

    lt.py seed  TORRENT --data DIR [--tracker URL]
    lt.py fetch TORRENT|MAGNET --out DIR [--peer IP:PORT]... [--tracker URL] [--seconds N] [--stay]

TORRENT may be given several times. By TCP at any port of loopback unless --listen IP:PORT and --transport utp|both say
otherwise. --dht NODE:PORT joins the DHT there, --lsd looks for peers nearby, --no-pex keeps peers to itself;
--idle wants no file; --slow takes 20 kB a second.
Events: listening {peer}, complete {seconds, name}, then (seed, or fetch with --stay) until killed.
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
parser.add_argument("--listen", default="127.0.0.1:0")
parser.add_argument("--transport", choices=["tcp", "utp", "both"], default="tcp")
parser.add_argument("--dht")
parser.add_argument("--lsd", action="store_true")
parser.add_argument("--no-pex", action="store_true")
parser.add_argument("--stay", action="store_true")
parser.add_argument("--idle", action="store_true")
parser.add_argument("--slow", action="store_true")
args = parser.parse_args()


def tell(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


tcp, utp = args.transport in ("tcp", "both"), args.transport in ("utp", "both")
settings = {
    "listen_interfaces": args.listen,
    "enable_dht": args.dht is not None,
    "enable_lsd": args.lsd,
    "enable_upnp": False,
    "enable_natpmp": False,
    "enable_incoming_tcp": tcp,
    "enable_outgoing_tcp": tcp,
    "enable_incoming_utp": utp,
    "enable_outgoing_utp": utp,
    "allow_multiple_connections_per_ip": True,
    "min_reconnect_time": 1,
    "alert_mask": lt.alert.category_t.error_notification
    | lt.alert.category_t.status_notification
    | lt.alert.category_t.tracker_notification,
}
if args.dht:
    # All nodes of the test have addresses of one private network.
    settings.update({
        "dht_bootstrap_nodes": args.dht,
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
    })
session = lt.session(settings)
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
    if args.no_pex:
        params.flags |= lt.torrent_flags.disable_pex
    handles.append(session.add_torrent(params))
    if args.slow:
        handles[-1].set_download_limit(20_000)
    if args.idle:
        handles[-1].prioritize_files([0] * params.ti.num_files())
tell("listening", peer=f"{args.listen.rsplit(':', 1)[0]}:{session.listen_port()}")

for handle in handles:
    for peer in args.peer:
        host, port = peer.rsplit(":", 1)
        handle.connect_peer((host, int(port)))

INCONSISTENT_HASHES = 217
rechecks = {}
began = time.monotonic()
done = set()
redial = began
stays = args.role == "seed" or args.stay
while time.monotonic() - began < args.seconds or (stays and len(done) == len(handles)):
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
    if not stays and len(done) == len(handles):
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
