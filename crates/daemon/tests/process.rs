//! A whole daemon as a process: exit codes, `--check`, signals, systemd's socket.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, missing_docs)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Cargo builds examples beside the tests: `target/debug/examples/daemon`.
fn example() -> Command {
    let mut path: PathBuf = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/daemon");
    Command::new(path)
}

struct Running {
    child: Child,
    admin: String,
    stderr: BufReader<std::process::ChildStderr>,
}

fn start(state: &std::path::Path, more: &[&str], socket: Option<&std::path::Path>) -> Running {
    let mut command = example();
    command
        .args(["--set", "admin.listen=127.0.0.1:0"])
        .args(more);
    command.arg("--state").arg(state).stderr(Stdio::piped());
    if let Some(socket) = socket {
        command.env("NOTIFY_SOCKET", socket);
    }
    let mut child = command.spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    let admin = line
        .split("\"admin\":\"")
        .nth(1)
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .to_owned();
    Running {
        child,
        admin,
        stderr,
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill(
            Pid::from_raw(i32::try_from(self.child.id()).unwrap()),
            signal,
        )
        .unwrap();
    }

    fn code(mut self) -> (Option<i32>, String) {
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().code(), rest)
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn next_word(socket: &UnixDatagram) -> String {
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut buffer = [0; 256];
    let n = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..n]).trim().to_owned()
}

#[test]
fn a_daemon_tells_systemd_answers_its_operator_and_stops_when_asked() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();

    let daemon = start(state.path(), &[], Some(&path));
    assert_eq!(next_word(&socket), "READY=1");
    assert!(get(&daemon.admin, "/healthz").starts_with("HTTP/1.1 200"));
    assert!(get(&daemon.admin, "/readyz").contains("{\"ready\":true"));
    assert!(get(&daemon.admin, "/metrics").contains("mallee_example_build_info"));
    assert!(get(&daemon.admin, "/tasks").contains("\"count\""));

    daemon.signal(Signal::SIGTERM);
    assert_eq!(next_word(&socket), "STOPPING=1");
    let (code, log) = daemon.code();
    assert_eq!(code, Some(0), "{log}");
}

#[test]
fn a_daemon_whose_part_dies_stops_with_1_and_says_which() {
    let state = tempfile::tempdir().unwrap();
    let (code, log) = start(state.path(), &["--set", "passes_end=badly"], None).code();
    assert_eq!(code, Some(1));
    assert!(log.contains("count: ") && log.contains("panicked"), "{log}");
}

#[test]
fn check_prints_what_would_be_used_and_wrong_configuration_exits_64() {
    let right = example()
        .args(["--check", "--log", "debug"])
        .output()
        .unwrap();
    assert_eq!(right.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&right.stdout).contains("filter = \"debug\""));

    let wrong = example()
        .args(["--check", "--set", "log.fitler=debug"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean `filter`?"));

    let version = example().arg("--version").output().unwrap();
    assert!(String::from_utf8_lossy(&version.stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_daemon_that_still_opens_what_it_has_is_alive_and_not_ready() {
    let state = tempfile::tempdir().unwrap();
    let daemon = start(state.path(), &["--set", "opens_for_ms=2000"], None);
    assert!(get(&daemon.admin, "/healthz").starts_with("HTTP/1.1 200"));
    let said = get(&daemon.admin, "/readyz");
    assert!(
        said.starts_with("HTTP/1.1 503") && said.contains("started"),
        "{said}"
    );
    while !get(&daemon.admin, "/readyz").starts_with("HTTP/1.1 200") {
        std::thread::sleep(Duration::from_millis(50));
    }
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.code().0, Some(0));
}
