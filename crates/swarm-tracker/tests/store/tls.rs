//! Redis over TLS, with a certificate that the system trusts and one that it does not.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::common::redis::Redis;
use crate::load::Program;
use crate::{SECOND, get, until};

fn write(dir: &Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("made");
    let path = |suffix: &str| dir.join(format!("{name}.{suffix}"));
    std::fs::write(path("pem"), made.cert.pem()).expect("written");
    std::fs::write(path("key"), made.signing_key.serialize_pem()).expect("written");
}

/// A server that speaks TLS too, and at which port.
fn secure(dir: &Path) -> (Redis, SocketAddr) {
    let path = |name: &str| dir.join(name).display().to_string();
    for _ in 0..5 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = free.local_addr().expect("bound");
        drop(free);
        let redis = Redis::try_start(&[
            "--tls-port",
            &addr.port().to_string(),
            "--tls-cert-file",
            &path("own.pem"),
            "--tls-key-file",
            &path("own.key"),
            "--tls-ca-cert-file",
            &path("own.pem"),
            "--tls-auth-clients",
            "no",
        ]);
        if let Some(redis) = redis {
            return (redis, addr);
        }
    }
    panic!("no Redis server with TLS came up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_trackers_share_by_a_server_that_the_system_trusts_and_by_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path(), "own");
    write(dir.path(), "other");
    let (_redis, addr) = secure(dir.path());
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    for (trusted, word) in [("own.pem", "shared"), ("other.pem", "alone")] {
        let trusted = dir.path().join(trusted);
        let store = format!("rediss://{addr}/1");
        let tracker = Program::run(&store, anywhere, &[], &[("SSL_CERT_FILE", &trusted)]);
        until(word, 5 * SECOND, async || {
            let status = get(tracker.addr, "/api/v1/status").await.text();
            status.contains(&format!(r#""store":"{word}""#))
        })
        .await;
        // Nor has it only not come to it yet.
        tokio::time::sleep(SECOND).await;
        let status = get(tracker.addr, "/api/v1/status").await.text();
        assert!(status.contains(&format!(r#""store":"{word}""#)), "{status}");
    }
}
