//! The program under a service manager: sockets handed over, readiness told, units that are right.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_swarm-tracker");
const SOON: Duration = Duration::from_secs(10);

/// Opens what its first argument names, as descriptors 3 and up, prints the ports, and becomes the
/// program that the other arguments name.
const HAND_OVER: &str = r#"
import fcntl, os, socket, sys
sockets = []
for kind in sys.argv[1].split(","):
    if kind == "unix":
        one = socket.socketpair()[0]
    else:
        one = socket.socket(type=socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", 0))
        if kind == "tcp":
            one.listen(16)
    sockets.append(one)
print(*(s.getsockname()[1] if s.family == socket.AF_INET else 0 for s in sockets), flush=True)
for at, fd in enumerate([fcntl.fcntl(s.fileno(), fcntl.F_DUPFD, 20) for s in sockets]):
    os.dup2(fd, 3 + at)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = str(len(sockets))
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// A program that is ended with the test.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Service {
    fn start(kinds: &str, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new("python3");
        command.args(["-c", HAND_OVER, kinds, BINARY]).args(args);
        command
            .env_remove("NOTIFY_SOCKET")
            .envs(env.iter().copied());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().expect("python3 is installed"))
    }

    fn lines(&mut self) -> impl Iterator<Item = String> + use<> {
        let stdout = self.0.stdout.take().expect("piped");
        BufReader::new(stdout).lines().map_while(Result::ok)
    }

    fn ends(&mut self) -> Option<i32> {
        let from = Instant::now();
        while from.elapsed() < SOON {
            if let Some(status) = self.0.try_wait().expect("it is ours") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("still running");
    }
}

fn ports(line: &str) -> Vec<u16> {
    let ports = line.split(' ').map(|port| port.parse().expect("a port"));
    ports.collect()
}

fn hear(socket: &UnixDatagram) -> String {
    let mut buf = [0; 512];
    let len = socket.recv(&mut buf).expect("told in time");
    String::from_utf8_lossy(&buf[..len]).trim().to_owned()
}

#[test]
fn sockets_that_are_handed_over_are_served_and_the_manager_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("bound");
    manager.set_read_timeout(Some(SOON)).expect("settable");
    let env = [
        ("NOTIFY_SOCKET", path.to_str().expect("text")),
        ("WATCHDOG_USEC", "300000"),
        // Those of the configuration are not opened: this one could not be.
        ("SWARM_TRACKER_HTTP", "192.0.2.1:1"),
    ];
    let mut service = Service::start("tcp,udp", &["run", "--json", "--open"], &env);
    let mut lines = service.lines();
    let [tcp, udp] = *ports(&lines.next().expect("ports")) else {
        panic!("two ports");
    };
    let (tcp, udp) = (
        SocketAddr::from(([127, 0, 0, 1], tcp)),
        SocketAddr::from(([127, 0, 0, 1], udp)),
    );
    // Whoever comes before it is up waits and is answered.
    let mut early = TcpStream::connect(tcp).expect("it listens");
    early
        .write_all(b"GET /readyz HTTP/1.0\r\n\r\n")
        .expect("it listens");
    let event: serde_json::Value =
        serde_json::from_str(&lines.next().expect("an event")).expect("JSON");
    assert_eq!(event["http_all"], serde_json::json!([tcp.to_string()]));
    assert_eq!(event["udp_all"], serde_json::json!([udp.to_string()]));
    assert_eq!(hear(&manager), "READY=1");
    let mut reply = String::new();
    early.read_to_string(&mut reply).expect("an answer");
    assert!(
        reply.starts_with("HTTP/1.0 200") && reply.ends_with("ready\n"),
        "{reply}"
    );
    let client = UdpSocket::bind("127.0.0.1:0").expect("loopback");
    client.set_read_timeout(Some(SOON)).expect("settable");
    let connect = [
        &0x0417_2710_1980_u64.to_be_bytes()[..],
        &[0, 0, 0, 0, 0, 0, 0, 9],
    ]
    .concat();
    client.send_to(&connect, udp).expect("sent");
    let mut buf = [0; 64];
    let (len, from) = client.recv_from(&mut buf).expect("an answer");
    assert_eq!(
        (len, from, &buf[..8]),
        (16, udp, &[0, 0, 0, 0, 0, 0, 0, 9][..])
    );
    // It says that it lives, again and again.
    for _ in 0..3 {
        assert_eq!(hear(&manager), "WATCHDOG=1");
    }
    let pid = service.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.is_ok_and(|status| status.success()));
    let last = std::iter::repeat_with(|| hear(&manager)).find(|said| said != "WATCHDOG=1");
    assert_eq!(last.as_deref(), Some("STOPPING=1"));
    assert_eq!(service.ends(), Some(0));
}

#[test]
fn a_socket_for_http_alone_brings_one_for_udp_beside_it() {
    let mut service = Service::start("tcp", &["run", "--json"], &[]);
    let mut lines = service.lines();
    let tcp = ports(&lines.next().expect("ports"))[0];
    let event: serde_json::Value =
        serde_json::from_str(&lines.next().expect("an event")).expect("JSON");
    let addr = format!("127.0.0.1:{tcp}");
    assert_eq!(
        (&event["http"], &event["udp"]),
        (&addr.clone().into(), &addr.into())
    );
}

#[test]
fn what_is_no_socket_of_ours_is_refused_in_one_line() {
    let mut service = Service::start("tcp,unix", &["run", "--json"], &[]);
    assert_eq!(service.ends(), Some(1));
    let mut text = String::new();
    let stderr = service.0.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut text).expect("text");
    assert!(
        text.contains("socket 1 that was handed over is neither TCP nor UDP"),
        "{text}"
    );
}

/// `systemd-analyze` reads the units as the manager would.
#[test]
fn the_units_are_right_and_leave_the_program_little_to_do_harm_with() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/systemd");
    let dir = tempfile::tempdir().expect("a directory");
    let mut paths = Vec::new();
    for name in ["swarm-tracker.service", "swarm-tracker.socket"] {
        let unit = std::fs::read_to_string(units.join(name)).expect("a unit");
        let path = dir.path().join(name);
        std::fs::write(&path, unit.replace("/usr/bin/swarm-tracker", BINARY)).expect("written");
        paths.push(path);
    }
    let verify = Command::new("systemd-analyze")
        .args(["verify", "--recursive-errors=no"])
        .args(&paths)
        .output()
        .expect("systemd is installed");
    let said = String::from_utf8_lossy(&verify.stderr).into_owned();
    assert!(verify.status.success() && said.trim().is_empty(), "{said}");
    // 0 is nothing exposed, 100 all: what it needs is the network.
    let security = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--threshold=20", "--no-pager"])
        .arg(&paths[0])
        .output()
        .expect("systemd is installed");
    let said = String::from_utf8_lossy(&security.stdout).into_owned();
    assert!(security.status.success(), "{said}");
}
