//! The Rig: starts the real binaries on loopback, reads their events, fetches like a visitor, and
//! ends everything it started when it is dropped.
//!
//! Nothing here knows the insides of a crate under test; what the binaries print and serve is all
//! a test may look at. A tool that is missing fails the test and says what to install.

pub mod dns;
pub mod flood;
pub mod foreign;
pub mod http;
pub mod lab;
pub mod leech;
pub mod liar;
pub mod lying_bridge;
pub mod nats;
pub mod origin;
pub mod process;
pub mod recorder;
pub mod site;

pub use http::{Reply, get};
pub use process::Proc;
pub use site::{Tree, small_site};

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// The path of one of the workspace's binaries, of the profile the tests were built with.
///
/// # Panics
/// When it has not been built: `cargo build --workspace` (with the same profile) does that.
pub fn bin(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    let dir = exe
        .parent()
        .and_then(Path::parent)
        .expect("test binaries live in target/PROFILE/deps");
    let path = dir.join(name);
    assert!(
        path.is_file(),
        "{} is missing: build the workspace with the same profile first",
        path.display()
    );
    path
}

/// A loopback address nobody listens at right now.
pub fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|socket| socket.local_addr())
        .expect("loopback has a free port")
}

/// The absolute path of a file beside the tests, such as `interop/lt.py`.
pub fn beside(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The path of a program of the machine.
///
/// # Panics
/// When it is not installed; says which Debian package has it.
pub fn tool(name: &str, package: &str) -> PathBuf {
    std::env::var_os("PATH")
        .into_iter()
        .flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>())
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}
