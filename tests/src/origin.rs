//! An origin that knows nothing of us: files of a folder, forms that count how often they came.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A running origin; it ends with the test's process.
pub struct Origin {
    /// Where it listens.
    pub addr: SocketAddr,
    posts: Arc<AtomicUsize>,
    line: Arc<Line>,
}

/// What an origin sends through, and says of all it sends.
struct Line {
    /// Bytes a second, of all connections together; 0: no limit.
    rate: u64,
    /// Header lines of every answer with a file, each with its end.
    says: &'static str,
    /// When the line is free again.
    free: Mutex<Instant>,
    sent: AtomicU64,
}

impl Line {
    /// Sends at the line's rate.
    fn send(&self, to: &mut TcpStream, bytes: &[u8]) -> std::io::Result<()> {
        for part in bytes.chunks(8192) {
            let micros = (part.len() as u64 * 1_000_000).checked_div(self.rate);
            if let Some(takes) = micros.map(Duration::from_micros) {
                let until = {
                    let mut free = self.free.lock().expect("nobody panics with it");
                    *free = (*free).max(Instant::now()) + takes;
                    *free
                };
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            to.write_all(part)?;
            self.sent.fetch_add(part.len() as u64, Ordering::SeqCst);
        }
        Ok(())
    }
}

impl Origin {
    /// Serves the files below `root`, whole or one range of them; any POST is counted and answered with 200.
    pub fn start(root: &Path) -> Self {
        Self::start_on_line(root, 0, "")
    }

    /// The same on a line of so many bytes a second, with these header lines on every file.
    pub fn start_on_line(root: &Path, rate: u64, says: &'static str) -> Self {
        let line = Arc::new(Line {
            rate,
            says,
            free: Mutex::new(Instant::now()),
            sent: AtomicU64::new(0),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let addr = listener
            .local_addr()
            .expect("a bound socket has an address");
        let posts = Arc::new(AtomicUsize::new(0));
        let (root, counter) = (Arc::new(root.to_owned()), Arc::clone(&posts));
        let served = Arc::clone(&line);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (root, counter) = (Arc::clone(&root), Arc::clone(&counter));
                let line = Arc::clone(&served);
                // A client that hangs up ends its thread; that is no failure of the test.
                std::thread::spawn(move || drop(serve(stream, &root, &counter, &line)));
            }
        });
        Self { addr, posts, line }
    }

    /// Bytes of files sent so far.
    pub fn sent(&self) -> u64 {
        self.line.sent.load(Ordering::SeqCst)
    }

    /// How many POSTs have arrived.
    pub fn posts(&self) -> usize {
        self.posts.load(Ordering::SeqCst)
    }
}

fn serve(stream: TcpStream, root: &Path, posts: &AtomicUsize, line: &Line) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let (mut range, mut last) = (None, false);
        loop {
            let mut field = String::new();
            reader.read_line(&mut field)?;
            range = range.or_else(|| asked_range(&field));
            last |= field.to_ascii_lowercase().starts_with("connection: close");
            if field.trim_end().is_empty() {
                break;
            }
        }
        let mut words = request.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or("/"));
        let (status, kind, body) = if method == "POST" {
            posts.fetch_add(1, Ordering::SeqCst);
            ("200 OK", "text/plain", b"thanks".to_vec())
        } else {
            file(root, target)
        };
        let whole = body.len();
        let part = range.filter(|(first, last)| first <= last && *last < whole);
        let (status, body, more) = match part {
            Some((first, last)) if status == "200 OK" => (
                "206 Partial Content",
                &body[first..=last],
                format!("Content-Range: bytes {first}-{last}/{whole}\r\n"),
            ),
            _ => (status, &body[..], String::new()),
        };
        write!(
            writer,
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{}{more}Content-Length: {}\r\n\r\n",
            line.says,
            body.len()
        )?;
        if method != "HEAD" {
            line.send(&mut writer, body)?;
        }
        if last {
            return Ok(());
        }
    }
}

/// First and last byte of `Range: bytes=FIRST-LAST`.
fn asked_range(line: &str) -> Option<(usize, usize)> {
    let (name, value) = line.split_once(':')?;
    let (first, last) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    let range = (first.parse().ok()?, last.parse().ok()?);
    name.eq_ignore_ascii_case("range").then_some(range)
}

/// Undoes percent-encoding; what is none stays.
fn unescape(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let decoded = part
            .get(..2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match decoded {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(part.bytes().skip(2));
            }
            None => bytes.extend(format!("%{part}").bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn file(root: &Path, target: &str) -> (&'static str, &'static str, Vec<u8>) {
    let path = unescape(target.split('?').next().unwrap_or("/"));
    let mut file = root.join(path.trim_start_matches('/'));
    if file.is_dir() {
        file = file.join("index.html");
    }
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css",
        Some("js") => "text/javascript",
        Some("txt") => "text/plain",
        _ => "application/octet-stream",
    };
    match std::fs::read(&file) {
        Ok(body) => ("200 OK", kind, body),
        Err(_) => ("404 Not Found", "text/plain", b"not here".to_vec()),
    }
}
