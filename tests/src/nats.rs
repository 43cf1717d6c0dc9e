//! Two peers behind a router each, and the net between them, as network namespaces.
//!
//! The routers masquerade, keep a port's number, and let nothing in that was not called for: each
//! hole must be punched from within. Needs root; all is gone when [`Nats`] is dropped.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Proc, tool};

/// The public host's address.
pub const PUBLIC: &str = "5.5.0.1";
/// The outer addresses of the two routers.
pub const OUTSIDE: [&str; 2] = ["5.5.1.1", "5.5.2.1"];

/// What a router does: nothing comes in that nobody within asked for.
const RULES: &str = "add table ip t; \
    add chain ip t post { type nat hook postrouting priority srcnat; }; \
    add rule ip t post oifname outer masquerade; \
    add chain ip t in { type filter hook input priority 0; }; \
    add rule ip t in iifname outer ct state new drop; \
    add chain ip t forward { type filter hook forward priority 0; }; \
    add rule ip t forward iifname outer ct state new drop";

/// Five namespaces: a public host that routes, and two homes with a router each.
pub struct Nats {
    stem: String,
    ip: PathBuf,
}

impl Nats {
    /// Makes them; `name` (at most 4 letters) tells those of one process apart.
    ///
    /// # Panics
    /// When not root, or a tool is missing.
    pub fn new(name: &str) -> Self {
        let nats = Self {
            stem: format!("{name}{}", std::process::id()),
            ip: tool("ip", "iproute2"),
        };
        let public = nats.public();
        nats.add(&public);
        nats.must(&format!("-n {public} addr add {PUBLIC}/32 dev lo"));
        nats.forward(&public);
        let nft = tool("nft", "nftables");
        for (side, outside) in OUTSIDE.iter().enumerate() {
            let (home, router) = (nats.home(side), nats.router(side));
            nats.add(&home);
            nats.add(&router);
            let net = side + 1;
            for line in [
                format!("-n {public} link add r{net} type veth peer outer netns {router}"),
                format!("-n {public} addr add 5.5.{net}.254/24 dev r{net}"),
                format!("-n {public} link set r{net} up"),
                format!("-n {router} addr add {outside}/24 dev outer"),
                format!("-n {router} link set outer up"),
                format!("-n {router} route add default via 5.5.{net}.254"),
                format!("-n {router} link add inner type veth peer eth netns {home}"),
                format!("-n {router} addr add 192.168.{net}.1/24 dev inner"),
                format!("-n {router} link set inner up"),
                format!("-n {home} addr add 192.168.{net}.2/24 dev eth"),
                format!("-n {home} link set eth up"),
                format!("-n {home} route add default via 192.168.{net}.1"),
            ] {
                nats.must(&line);
            }
            nats.forward(&router);
            let mut rules = Command::new(&nats.ip);
            rules.args(["netns", "exec", &router]).arg(&nft).arg(RULES);
            let done = rules.output().expect("ip starts");
            assert!(done.status.success(), "nft: {done:?}");
        }
        nats
    }

    /// The namespace of [`PUBLIC`].
    pub fn public(&self) -> String {
        format!("{}p", self.stem)
    }

    /// The namespace behind router 0 or 1.
    pub fn home(&self, side: usize) -> String {
        format!("{}h{side}", self.stem)
    }

    fn router(&self, side: usize) -> String {
        format!("{}r{side}", self.stem)
    }

    fn add(&self, ns: &str) {
        self.must(&format!("netns add {ns}"));
        self.must(&format!("-n {ns} link set lo up"));
    }

    fn forward(&self, ns: &str) {
        let mut command = Command::new(&self.ip);
        command.args(["netns", "exec", ns, "sh", "-c"]);
        command.arg("echo 1 > /proc/sys/net/ipv4/ip_forward");
        let done = command.stdin(Stdio::null()).output().expect("ip starts");
        assert!(done.status.success(), "forwarding: {done:?}");
    }

    fn must(&self, line: &str) {
        let done = Command::new(&self.ip).args(line.split(' ')).output();
        let done = done.expect("ip starts");
        assert!(
            done.status.success(),
            "ip {line}: {} (network namespaces need root)",
            String::from_utf8_lossy(&done.stderr)
        );
    }

    /// Starts one of the workspace's binaries in a namespace.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        ns: &str,
        name: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Proc {
        let mut all = vec!["netns".into(), "exec".into(), ns.into()];
        all.push(crate::bin(name).into_os_string());
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Proc::start_program(name, &self.ip, all)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let homes = (0..OUTSIDE.len()).flat_map(|side| [self.home(side), self.router(side)]);
        for name in homes.chain([self.public()]) {
            // What was never made need not be taken away.
            let _ = Command::new(&self.ip)
                .args(["netns", "del", &name])
                .output();
        }
    }
}
