//! What programs did to files, as strace wrote it down.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Every call that could change a file or make it durable. One that no arm below knows ends the
/// test when it meets a file that is looked at.
const CALLS: &str = "trace=open,openat,openat2,creat,mkdir,mkdirat,write,writev,pwrite64,pwritev,\
    pwritev2,truncate,ftruncate,fallocate,copy_file_range,sendfile,splice,fsync,fdatasync,\
    sync_file_range,sync,syncfs,rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,\
    symlinkat";

/// A call that succeeded, between two lines of the log.
pub(crate) struct Event {
    pub(crate) began: usize,
    pub(crate) ended: usize,
    pub(crate) call: Call,
}

pub(crate) enum Call {
    /// Opened by a call that makes the file where there is none, and may empty it where there is.
    Make(PathBuf, bool),
    MakeDir(PathBuf),
    Write(PathBuf, u64, Vec<u8>),
    Resize(PathBuf, u64),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    /// Told the user, on standard output.
    Said(String),
}

/// Starts a program whose calls go to `log`.
pub(crate) fn start(log: &Path, program: &Path, args: &[String]) -> Child {
    Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-y", "-xx", "-s", "1000000"])
        .args(["-e", "signal=none", "-e", CALLS, "-o"])
        .arg(log)
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("strace is missing: apt-get install strace")
}

/// The calls of programs that ran one after the other, about files below `root`.
pub(crate) fn read(logs: &[PathBuf], root: &Path) -> Vec<Event> {
    let (mut events, mut first) = (Vec::new(), 0);
    for log in logs {
        let text = std::fs::read_to_string(log).expect("strace wrote it");
        let lines: Vec<&str> = text.lines().collect();
        let mut reader = Reader {
            root,
            places: BTreeMap::new(),
        };
        let mut waiting: BTreeMap<&str, (usize, String)> = BTreeMap::new();
        let mut calls = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let (pid, rest) = line.split_once(' ').expect("a process number comes first");
            let rest = rest.trim_start();
            if let Some(begun) = rest.strip_suffix(" <unfinished ...>") {
                waiting.insert(pid, (at, begun.to_owned()));
            } else if rest.starts_with("<... ") {
                let (began, begun) = waiting.remove(pid).expect("it was begun");
                let (_, end) = rest.split_once(" resumed>").expect("so strace says it");
                calls.push((began, at, begun + end));
            } else if let Some(begun) = rest.strip_suffix(" <unfinished ...>) = ?") {
                waiting.insert(pid, (at, begun.to_owned()));
            } else if rest.starts_with(|c: char| c.is_ascii_lowercase()) {
                calls.push((at, at, rest.to_owned()));
            }
        }
        // Killed in the middle: whatever the system still did was done when all was over.
        for (began, begun) in waiting.into_values() {
            calls.push((began, lines.len(), begun + ") = ?"));
        }
        calls.sort_by_key(|(_, ended, _)| *ended);
        let known = calls.iter().filter_map(|(began, ended, text)| {
            let (began, ended) = (first + began, first + ended);
            let call = reader.call(text)?;
            Some(Event { began, ended, call })
        });
        events.extend(known);
        first += lines.len() + 1;
    }
    events
}

/// Reads the calls of one process.
struct Reader<'a> {
    root: &'a Path,
    /// Where the next `write` to a descriptor goes.
    places: BTreeMap<String, u64>,
}

impl Reader<'_> {
    fn call(&mut self, text: &str) -> Option<Call> {
        let (name, rest) = text.split_once('(')?;
        let (args, result) = rest.rsplit_once("= ")?;
        let args = args.trim_end().strip_suffix(')')?;
        if result.starts_with('-') {
            return None;
        }
        let args: Vec<&str> = args.split(", ").collect();
        let arg = |at: usize| args.get(at).copied().unwrap_or_default();
        let number = |at: usize| arg(at).parse::<u64>().expect("a number");
        if matches!(name, "write") && arg(0).starts_with("1<") {
            return Some(Call::Said(String::from_utf8_lossy(&unhex(arg(1))).into()));
        }
        let paths: Vec<PathBuf> = args.iter().filter_map(|arg| self.path(arg)).collect();
        let path = paths.first()?.clone();
        let descriptor = |text: &str| text.split('<').next().unwrap_or_default().to_owned();
        Some(match name {
            "openat" if !result.starts_with('?') => {
                self.places.insert(descriptor(result), 0);
                if !arg(2).contains("O_CREAT") {
                    assert!(!arg(2).contains("O_TRUNC"), "not modelled: {text}");
                    return None;
                }
                Call::Make(path, arg(2).contains("O_TRUNC"))
            }
            "openat" => return None,
            "mkdir" | "mkdirat" => Call::MakeDir(path),
            "pwrite64" => Call::Write(path, number(3), cut(unhex(arg(1)), result)),
            "write" => {
                let bytes = cut(unhex(arg(1)), result);
                let place = self.places.get_mut(&descriptor(arg(0)));
                let place = place.expect("it was opened");
                *place += bytes.len() as u64;
                Call::Write(path, *place - bytes.len() as u64, bytes)
            }
            "ftruncate" => Call::Resize(path, number(1)),
            "fsync" | "fdatasync" => {
                // Killed before it was done, it vouches for nothing.
                (!result.starts_with('?')).then_some(Call::Sync(path))?
            }
            "rename" | "renameat" | "renameat2" => {
                Call::Rename(path, paths.get(1).expect("both are looked at").clone())
            }
            "unlink" | "unlinkat" => Call::Remove(path),
            _ => panic!("not modelled: {}", &text[..text.len().min(500)]),
        })
    }

    /// The file that an argument names, by descriptor or by name, if it is looked at.
    fn path(&self, arg: &str) -> Option<PathBuf> {
        let hex = match arg.split_once('<') {
            Some((descriptor, rest)) if descriptor != "AT_FDCWD" => rest.split_once('>')?.0,
            Some(_) => return None,
            None => arg.strip_prefix('"')?.strip_suffix('"')?,
        };
        let path = PathBuf::from(String::from_utf8(unhex(hex)).ok()?);
        // Sockets come and go there.
        let looked_at =
            path.starts_with(self.root) && !path.starts_with(self.root.join("state/run"));
        looked_at.then_some(path)
    }
}

/// What the call says it wrote.
fn cut(mut bytes: Vec<u8>, result: &str) -> Vec<u8> {
    if let Ok(len) = result.parse() {
        bytes.truncate(len);
    }
    bytes
}

/// The bytes of `"\x61\x62"`.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim_matches('"').split("\\x").skip(1);
    let byte = |digits| u8::from_str_radix(digits, 16).expect("strace was told to write so");
    digits.map(byte).collect()
}
