//! A file system with the least that a cluster's has, for tests that share and that hang it.
//!
//! ```text
//! shared_fs BEHIND MOUNTPOINT links|no-links      < mounted
//! > hang       from now on every call hangs       < done
//! > go on      all that hung goes on              < done
//! ```
//!
//! It ends with its input, with whoever started it, and in any case when it has hung for half a minute:
//! a call into a file system that hangs cannot be given up by whoever made it, not even by being killed.
#![allow(clippy::unwrap_used)] // a tool of tests, where a panic is the message
#![allow(clippy::disallowed_methods)] // a file system has a clock of its own

use std::{path::PathBuf, time::Duration};

use nix::sys::{prctl::set_pdeathsig, signal::Signal};
use testkit::fuse::Serving;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// No test has it hang for longer.
const HANGS_AT_MOST: Duration = Duration::from_secs(30);
/// Nor has one that is alive any use for it after that: the limit of a test, twice.
const LIVES_AT_MOST: Duration = Duration::from_secs(1200);

/// What is written to us, line by line.
fn asked() -> mpsc::Receiver<String> {
    let (sender, asked) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines().map_while(Result::ok);
        lines.all(|line| sender.blocking_send(line).is_ok())
    });
    asked
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let mut killed = signal(SignalKind::terminate()).unwrap();
    // Sent when the thread that started us ends, however it does. It may have ended before.
    set_pdeathsig(Signal::SIGTERM).unwrap();
    let mut words = std::env::args_os().skip(1);
    let (behind, mountpoint): (PathBuf, PathBuf) =
        (words.next().unwrap().into(), words.next().unwrap().into());
    let has_links = words.next().unwrap() == "links";
    let serving = Serving::mount(&behind, &mountpoint, has_links).unwrap();
    println!("mounted");

    let mut asked = asked();
    let mut until = Instant::now() + LIVES_AT_MOST;
    loop {
        let line = tokio::select! {
            line = asked.recv() => line,
            _ = killed.recv() => None,
            () = sleep_until(until) => None,
        };
        match line.as_deref() {
            Some("hang") => {
                serving.hang();
                until = until.min(Instant::now() + HANGS_AT_MOST);
            }
            Some("go on") => {
                serving.go_on();
                until = Instant::now() + LIVES_AT_MOST;
            }
            Some(other) => eprintln!("unknown: {other}"),
            None => break,
        }
        println!("done");
    }
    serving.go_on();
    serving.unmount();
    // Threads that serve calls are not waited for: the kernel ends what they had not answered.
    std::process::exit(0);
}
