//! A Redis server of the test's own, on loopback, with nothing on disk.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

pub(crate) struct Redis {
    server: Child,
    pub(crate) addr: SocketAddr,
    args: Vec<String>,
    /// Its working directory.
    _dir: TempDir,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Nil,
    Text(Vec<u8>),
    Number(i64),
    List(Vec<Self>),
}

impl Answer {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join("redis-server"))
        .find(|path| path.is_file())
        .expect("redis-server is missing: apt-get install redis-server")
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With more arguments.
    pub(crate) fn start_with(args: &[&str]) -> Self {
        Self::try_start(args).expect("a Redis server comes up")
    }

    /// `None`: it does not, as where a port among the arguments is taken.
    pub(crate) fn try_start(args: &[&str]) -> Option<Self> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let addr = free.local_addr().expect("bound");
            drop(free);
            // Somebody else may have taken it meanwhile.
            if let Some(redis) = Self::start_at(addr, &args) {
                return Some(redis);
            }
        }
        None
    }

    fn start_at(addr: SocketAddr, args: &[String]) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mut server = Command::new(program())
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &addr.port().to_string(), "--dir"])
            .arg(dir.path())
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let from = Instant::now();
        while from.elapsed() < Duration::from_secs(10) {
            if server.try_wait().expect("it is ours").is_some() {
                return None;
            }
            if TcpStream::connect(addr).is_ok() {
                return Some(Self {
                    server,
                    addr,
                    args: args.to_vec(),
                    _dir: dir,
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = server.kill();
        let _ = server.wait();
        None
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.addr)
    }

    /// Ends it at once, and all that it held.
    pub(crate) fn kill(&mut self) {
        self.server.kill().expect("it is ours");
        self.server.wait().expect("it is ours");
    }

    /// Starts an empty one in its place.
    pub(crate) fn revive(&mut self) {
        self.kill_quietly();
        let from = Instant::now();
        while from.elapsed() < Duration::from_secs(20) {
            if let Some(new) = Self::start_at(self.addr, &self.args) {
                *self = new;
                return;
            }
        }
        panic!("the port is not free again");
    }

    /// Sends it a signal, as `-STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([name, &self.server.id().to_string()])
            .status();
        assert!(sent.is_ok_and(|status| status.success()));
    }

    /// Asks it something.
    pub(crate) fn ask(&self, words: &[&[u8]]) -> Answer {
        let mut stream = TcpStream::connect(self.addr).expect("it listens");
        let mut asked = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            asked.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            asked.extend_from_slice(word);
            asked.extend_from_slice(b"\r\n");
        }
        stream.write_all(&asked).expect("it takes questions");
        read(&mut BufReader::new(stream))
    }

    /// The same, in text.
    pub(crate) fn say(&self, words: &str) -> Answer {
        let words: Vec<&[u8]> = words.split(' ').map(str::as_bytes).collect();
        self.ask(&words)
    }

    fn kill_quietly(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill_quietly();
    }
}

fn read(from: &mut BufReader<TcpStream>) -> Answer {
    let mut line = String::new();
    from.read_line(&mut line).expect("an answer");
    let (kind, rest) = line.trim_end().split_at(1);
    let number = || rest.parse::<i64>().expect("a number");
    match kind {
        "+" => Answer::Text(rest.into()),
        ":" => Answer::Number(number()),
        "$" | "*" if number() < 0 => Answer::Nil,
        "$" => {
            let mut text = vec![0; number() as usize + 2];
            from.read_exact(&mut text).expect("the whole answer");
            text.truncate(number() as usize);
            Answer::Text(text)
        }
        "*" => Answer::List((0..number()).map(|_| read(from)).collect()),
        _ => panic!("refused: {line}"),
    }
}
