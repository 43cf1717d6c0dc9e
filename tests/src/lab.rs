//! Two network namespaces joined by a wire, for clients that refuse to talk to their own address.
//!
//! Needs root. Both are gone when the [`Lab`] is dropped, and nothing in them reaches outside.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Proc, tool};

/// The address of everything of ours.
pub const OURS: &str = "10.99.0.1";
/// The address of everything foreign.
pub const THEIRS: &str = "10.99.0.2";
/// Ports that TCP may use even where peers must speak uTP: trackers and web servers.
pub const SERVICE_PORTS: std::ops::Range<u16> = 2000..3000;

/// What the wire carries between peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Everything.
    Open,
    /// No TCP but at [`SERVICE_PORTS`], so that what peers exchange has come by uTP.
    UdpOnly,
}

/// Which end of the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// [`OURS`].
    Ours,
    /// [`THEIRS`].
    Theirs,
}

/// A pair of namespaces.
pub struct Lab {
    names: [String; 2],
    ip: PathBuf,
}

impl Lab {
    /// Makes the pair; `name` (at most 4 letters) tells labs of one process apart.
    ///
    /// # Panics
    /// When not root, or a tool is missing.
    pub fn new(name: &str, wire: Wire) -> Self {
        let ip = tool("ip", "iproute2");
        let stem = format!("{name}{}", std::process::id());
        let lab = Self {
            names: [format!("{stem}o"), format!("{stem}t")],
            ip,
        };
        let [ours, theirs] = &lab.names;
        for ns in &lab.names {
            lab.must(&["netns", "add", ns]);
            lab.must(&["-n", ns, "link", "set", "lo", "up"]);
        }
        lab.must(&[
            "-n", ours, "link", "add", "wire", "type", "veth", "peer", "wire", "netns", theirs,
        ]);
        for (ns, addr) in [(ours, OURS), (theirs, THEIRS)] {
            lab.must(&[
                "-n",
                ns,
                "addr",
                "add",
                &format!("{addr}/24"),
                "dev",
                "wire",
            ]);
            lab.must(&["-n", ns, "link", "set", "wire", "up"]);
            // Multicast (local discovery) goes over the wire, too.
            lab.must(&["-n", ns, "route", "add", "default", "dev", "wire"]);
        }
        if wire == Wire::UdpOnly {
            let nft = tool("nft", "nftables");
            let ports = format!("{}-{}", SERVICE_PORTS.start, SERVICE_PORTS.end - 1);
            for ns in &lab.names {
                let rules = format!(
                    "add table inet t; \
                     add chain inet t in {{ type filter hook input priority 0; }}; \
                     add rule inet t in iif wire tcp dport != {ports} tcp sport != {ports} reject with tcp reset"
                );
                let done = Command::new(&lab.ip)
                    .args(["netns", "exec", ns])
                    .arg(&nft)
                    .arg(rules)
                    .output()
                    .expect("ip starts");
                assert!(done.status.success(), "nft: {done:?}");
            }
        }
        lab
    }

    fn must(&self, args: &[&str]) {
        let done = Command::new(&self.ip).args(args).output();
        let done = done.expect("ip starts");
        assert!(
            done.status.success(),
            "ip {}: {} (network namespaces need root)",
            args.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
    }

    fn name(&self, end: End) -> &str {
        match end {
            End::Ours => &self.names[0],
            End::Theirs => &self.names[1],
        }
    }

    /// Starts one of the workspace's binaries at our end.
    pub fn ours<S: AsRef<OsStr>>(&self, name: &str, args: impl IntoIterator<Item = S>) -> Proc {
        self.start(End::Ours, name, &crate::bin(name), args)
    }

    /// Starts any program at either end.
    pub fn start<S: AsRef<OsStr>>(
        &self,
        end: End,
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Proc {
        let mut all = vec![
            "netns".into(),
            "exec".into(),
            self.name(end).into(),
            program.as_os_str().to_owned(),
        ];
        all.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Proc::start_program(name, &self.ip, all)
    }

    /// Runs a program at either end and returns its standard output, if it succeeds.
    pub fn output(&self, end: End, program: &Path, args: &[&str]) -> Option<String> {
        let done = Command::new(&self.ip)
            .args(["netns", "exec", self.name(end)])
            .arg(program)
            .args(args)
            .output()
            .expect("ip starts");
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        done.status.success().then_some(said)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            // What is gone already need not be taken away.
            let _ = Command::new(&self.ip).args(["netns", "del", name]).output();
        }
    }
}
