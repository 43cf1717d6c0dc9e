//! One child process: its events, its log, and its end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Lines of standard output, lines of standard error.
type Lines = (Vec<String>, Vec<String>);

/// What a child has printed so far; every line wakes whoever waits.
#[derive(Default)]
struct Printed {
    state: Mutex<Lines>,
    more: Condvar,
}

/// A running child. Dropping it kills it; a test that panics prints what it had said.
pub struct Proc {
    name: String,
    child: Child,
    printed: Arc<Printed>,
    _state: TempDir,
}

impl Proc {
    /// Starts one of the workspace's binaries.
    pub fn start<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Self {
        Self::start_program(name, &crate::bin(name), args)
    }

    /// Starts any program; `name` is what messages call it.
    pub fn start_program<S: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        args: impl IntoIterator<Item = S>,
    ) -> Self {
        let state = own_state();
        let mut child = Command::new(program)
            .args(args)
            .env("XDG_STATE_HOME", state.path())
            .env("RUST_LOG", "info")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
        let printed = Arc::new(Printed::default());
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        follow(stdout, Arc::clone(&printed), |state| &mut state.0);
        follow(stderr, Arc::clone(&printed), |state| &mut state.1);
        Self {
            name: name.to_owned(),
            child,
            printed,
            _state: state,
        }
    }

    /// Waits for the first line of standard output that is an object with this `event`.
    pub fn event(&mut self, event: &str, patience: Duration) -> Value {
        self.event_where(event, patience, |_| true)
    }

    /// As [`Proc::event`], for the first such object that `wanted` accepts.
    pub fn event_where(
        &mut self,
        event: &str,
        patience: Duration,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let found = self.wait(patience, |out, _| {
            out.iter()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|value| value["event"] == event && wanted(value))
        });
        found.unwrap_or_else(|| {
            panic!(
                "{}: no event {event:?} in {patience:?}\n{}",
                self.name,
                self.said()
            )
        })
    }

    /// The last such object so far.
    pub fn last_event(&self, event: &str) -> Option<Value> {
        let state = self.printed.state.lock().expect("no reader panics");
        let lines = state.0.iter().rev();
        lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find(|value| value["event"] == event)
    }

    /// Waits until a line of standard error or output contains `text`.
    pub fn says(&mut self, text: &str, patience: Duration) -> String {
        let found = self.wait(patience, |out, err| {
            err.iter()
                .chain(out)
                .find(|line| line.contains(text))
                .cloned()
        });
        found.unwrap_or_else(|| {
            panic!(
                "{}: never said {text:?} in {patience:?}\n{}",
                self.name,
                self.said()
            )
        })
    }

    fn wait<T>(
        &mut self,
        patience: Duration,
        look: impl Fn(&[String], &[String]) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + patience;
        let mut state = self.printed.state.lock().expect("no reader panics");
        loop {
            if let Some(found) = look(&state.0, &state.1) {
                return Some(found);
            }
            let left = end.checked_duration_since(Instant::now())?;
            let step = left.min(Duration::from_millis(200));
            state = self
                .printed
                .more
                .wait_timeout(state, step)
                .expect("no reader panics")
                .0;
            if self.child.try_wait().ok().flatten().is_some() {
                // The readers may still hold its last lines.
                drop(state);
                std::thread::sleep(Duration::from_millis(100));
                state = self.printed.state.lock().expect("no reader panics");
                return look(&state.0, &state.1);
            }
        }
    }

    /// Everything printed so far, for messages.
    pub fn said(&self) -> String {
        let state = self.printed.state.lock().expect("no reader panics");
        let tail = |lines: &[String]| lines[lines.len().saturating_sub(60)..].join("\n");
        format!(
            "--- {} stdout\n{}\n--- stderr\n{}",
            self.name,
            tail(&state.0),
            tail(&state.1)
        )
    }

    /// All of standard error so far.
    pub fn log(&self) -> String {
        self.printed
            .state
            .lock()
            .expect("no reader panics")
            .1
            .join("\n")
    }

    /// The number of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and returns its status.
    pub fn end(&mut self, patience: Duration) -> ExitStatus {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(
                Instant::now() < end,
                "{} runs on after {patience:?}\n{}",
                self.name,
                self.said()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .expect("kill is part of every Debian");
        assert!(status.success());
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", self.said());
        }
    }
}

/// Where a program keeps what it remembers, unless it is told by `--state`: never where the user
/// who runs the tests keeps theirs.
fn own_state() -> TempDir {
    tempfile::tempdir().expect("scratch")
}

fn follow(
    stream: impl Read + Send + 'static,
    printed: Arc<Printed>,
    side: fn(&mut Lines) -> &mut Vec<String>,
) {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(stream).split(b'\n');
        while let Some(Ok(line)) = lines.next() {
            let mut state = printed.state.lock().expect("no reader panics");
            side(&mut state).push(String::from_utf8_lossy(&line).into_owned());
            printed.more.notify_all();
        }
    });
}

/// What a program printed and how it ended.
pub struct Ended {
    /// Exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs one of the workspace's binaries to its end.
pub fn run<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Ended {
    run_program(&crate::bin(name), args)
}

/// Runs any program to its end.
pub fn run_program<S: AsRef<OsStr>>(program: &Path, args: impl IntoIterator<Item = S>) -> Ended {
    let state = own_state();
    let output = Command::new(program)
        .args(args)
        .env("XDG_STATE_HOME", state.path())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", program.display()));
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// As [`run`], and the program must succeed.
pub fn run_ok<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> Ended {
    let ended = run(name, args);
    assert_eq!(
        ended.code,
        Some(0),
        "{name}: {}\n{}",
        ended.stdout,
        ended.stderr
    );
    ended
}
