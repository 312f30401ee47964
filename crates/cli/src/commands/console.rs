//! `mallee console`: a guest's serial line, read and typed into. On a terminal it is the terminal's;
//! otherwise the log so far is printed, and with `--follow` all that comes, while the input is typed.

use std::{
    io::{IsTerminal, Read},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use control::{
    Cloud,
    node::{ConsoleRead, ConsoleWrite},
};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use tokio::{sync::mpsc, time::Instant};
use types::InstanceId;

use crate::{Failure, admin::Admin, args, neutral::Neutral, output};

/// How long one poll waits for a byte.
const WAIT_MS: u64 = 15_000;
/// The least time between two polls that brought nothing.
const PAUSE: Duration = Duration::from_millis(200);
/// Between two tries while the cloud does not answer.
const RETRY: Duration = Duration::from_secs(1);
/// What one call may type.
const TYPED_MAX: usize = 4096;
/// Ctrl-], as telnet and virsh have it.
const LEAVE: u8 = 0x1d;

/// Shows a console.
pub async fn run(admin: &args::Admin, ask: args::Console) -> Result<(), Failure> {
    let admin = Admin::open(admin).await?;
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let mut shown = Shown::new(&ask);
    shown.read(&admin, 0).await?;
    if ask.log || !(ask.follow || is_terminal) {
        return Ok(());
    }
    let _restored_at_the_end = is_terminal.then(RawMode::enter).transpose()?;
    if is_terminal {
        eprint!("connected to {}; Ctrl-] leaves\r\n", ask.instance);
    }
    let outcome = talk(&admin, &ask.instance, &mut shown, keys(is_terminal)).await;
    if is_terminal {
        eprint!("\r\n");
    }
    outcome
}

async fn talk(
    admin: &Admin,
    instance: &InstanceId,
    shown: &mut Shown,
    mut keys: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Failure> {
    let typing = async {
        while let Some(typed) = keys.recv().await {
            let (typed, leaves) = until_leave(&typed);
            for piece in typed.chunks(TYPED_MAX) {
                let input = STANDARD.encode(piece);
                let write = ConsoleWrite {
                    instance: instance.clone(),
                    input,
                };
                admin.cloud.console_write(&admin.call(), write).await?;
            }
            if leaves {
                return Ok(());
            }
        }
        // The input has ended; what the guest says is shown all the same.
        std::future::pending().await
    };
    tokio::select! {
        left = typing => left,
        failed = shown.follow(admin) => failed,
    }
}

fn until_leave(typed: &[u8]) -> (&[u8], bool) {
    match typed.iter().position(|byte| *byte == LEAVE) {
        Some(at) => (&typed[..at], true),
        None => (typed, false),
    }
}

/// What has been printed so far.
struct Shown {
    instance: InstanceId,
    next: Option<u64>,
    neutral: Option<Neutral>,
}

impl Shown {
    fn new(ask: &args::Console) -> Self {
        let neutral = (!ask.raw).then(Neutral::default);
        Self {
            instance: ask.instance.clone(),
            next: None,
            neutral,
        }
    }

    /// Prints what there is; waits for a byte if there is none. Says how many bytes came.
    async fn read(&mut self, admin: &Admin, wait_ms: u64) -> Result<usize, Failure> {
        let ask = ConsoleRead {
            instance: self.instance.clone(),
            from: self.next,
            wait_ms,
        };
        let said = admin
            .cloud
            .console_read(&admin.call().polling_ms(wait_ms), ask)
            .await?;
        let bytes = STANDARD
            .decode(&said.output)
            .map_err(|error| Failure::failed("reading the console", error))?;
        self.next = Some(said.from + bytes.len() as u64);
        match &mut self.neutral {
            Some(neutral) => output::write(&neutral.filter(&bytes))?,
            None => output::write(&bytes)?,
        }
        Ok(bytes.len())
    }

    /// Prints for ever; a cloud controller that restarts is waited for.
    async fn follow(&mut self, admin: &Admin) -> Result<(), Failure> {
        let mut is_away = false;
        loop {
            let asked = Instant::now();
            match self.read(admin, WAIT_MS).await {
                Ok(0) => tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed())).await,
                Ok(_) => is_away = false,
                Err(Failure::Unreachable(why)) => {
                    if !is_away {
                        eprint!("\r\n[{why}; trying again]\r\n");
                    }
                    is_away = true;
                    tokio::time::sleep(RETRY).await;
                }
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// What is typed, from a thread of its own: reading a terminal cannot be broken off.
fn keys(is_terminal: bool) -> mpsc::Receiver<Vec<u8>> {
    let (tell, told) = mpsc::channel(16);
    std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        let mut input = std::io::stdin().lock();
        while let Ok(size @ 1..) = input.read(&mut buffer) {
            if tell.blocking_send(buffer[..size].to_vec()).is_err() {
                return;
            }
        }
        // A terminal that ended (its window was closed) leaves; a pipe's end is only silence.
        if is_terminal {
            let _ = tell.blocking_send(vec![LEAVE]);
        }
    });
    told
}

/// The terminal passes each key on as it is pressed, until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self, Failure> {
        let stdin = std::io::stdin();
        let failed = |error| Failure::failed("setting the terminal", error);
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&stdin, SetArg::TCSADRAIN, &raw).map_err(failed)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // A terminal that has gone needs no restoring.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_before_ctrl_bracket_is_still_sent() {
        assert_eq!(until_leave(b"exit\r\x1dmore"), (&b"exit\r"[..], true));
        assert_eq!(until_leave(b"ls\r"), (&b"ls\r"[..], false));
    }
}
