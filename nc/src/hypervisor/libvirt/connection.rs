//! One connection to libvirt that is always being looked after, and calls with a limit over it.

use std::{
    sync::{Arc, Mutex, MutexGuard, Weak},
    thread,
    time::Duration,
};

use tokio::sync::{Semaphore, mpsc, oneshot};
use virt::{
    connect::Connect,
    error::{Error as VirError, ErrorNumber, ErrorNumberEnum},
};

use super::events;
use crate::hypervisor::{Error, Happened};

/// How often the connection is looked at. libvirt notices the end of a socket by itself at once.
const LOOK: Duration = Duration::from_millis(200);
/// After a failed attempt to connect; a libvirtd restarts in a second.
const RETRY: Duration = Duration::from_millis(500);
/// A libvirtd that hangs with its socket open is given up after so many seconds, three times.
const KEEPALIVE_S: i32 = 5;
const KEEPALIVE_MISSES: u32 = 3;
/// Calls under way at once. Far above what a node does; a hung libvirt must not eat all threads.
const CALLS_MAX: usize = 64;

/// The connection, or why there is none.
#[derive(Debug)]
pub(super) struct Connection {
    uri: String,
    current: Mutex<Result<Connect, String>>,
    calls: Arc<Semaphore>,
}

impl Connection {
    /// Connects in the background. The connection ends with the last reference to this.
    pub(super) fn open(uri: &str, tell: mpsc::Sender<Happened>) -> Arc<Self> {
        // Errors are returned; libvirt would print each on standard error as well.
        virt::error::clear_error_callback();
        events::run_loop();
        let connection = Arc::new(Self {
            uri: uri.to_owned(),
            current: Mutex::new(Err("not connected yet".to_owned())),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
        });
        let looked_after = Arc::downgrade(&connection);
        spawn("libvirt", move || look_after(&looked_after, &tell));
        connection
    }

    fn current(&self) -> MutexGuard<'_, Result<Connect, String>> {
        self.current
            .lock()
            .expect("no one panics while holding this lock")
    }

    fn get(&self) -> Result<Connect, Error> {
        self.current().clone().map_err(Error::Unreachable)
    }

    /// Makes a call on a thread of its own and waits for it, no longer than the limit.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        doing: String,
        limit: Duration,
        ask: impl FnOnce(&Connect) -> Result<T, VirError> + Send + 'static,
    ) -> Result<T, Error> {
        let connect = self.get()?;
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            let why = format!("{CALLS_MAX} calls to libvirt are under way already");
            return Err(Error::Unreachable(why));
        };
        let (answer, answered) = oneshot::channel();
        spawn("libvirt-call", move || {
            let outcome = ask(&connect);
            let dead = outcome.is_err() && !connect.is_alive().unwrap_or(false);
            drop(permit);
            let _ = answer.send((outcome, dead));
        });
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok((Ok(value), _))) => Ok(value),
            Ok(Ok((Err(error), true))) => Err(Error::Unreachable(error.message().to_owned())),
            Ok(Ok((Err(error), false))) => Err(Error::Refused {
                doing,
                why: error.message().to_owned(),
            }),
            Ok(Err(_)) => Err(Error::Refused {
                doing,
                why: "the call broke off".to_owned(),
            }),
            Err(_) => Err(Error::TimedOut {
                doing,
                seconds: limit.as_secs(),
            }),
        }
    }
}

/// Whether an error is that one.
pub(super) fn is(error: &VirError, number: ErrorNumber) -> bool {
    error.code() == ErrorNumberEnum::Known(number)
}

fn look_after(connection: &Weak<Connection>, tell: &mpsc::Sender<Happened>) {
    while let Some(held) = connection.upgrade() {
        match connect(&held.uri, tell) {
            Ok(made) => {
                *held.current() = Ok(made.clone());
                drop(held);
                let _ = tell.blocking_send(Happened::Connected);
                watch(connection, &made);
                let why = "the connection to libvirt was lost".to_owned();
                if let Some(held) = connection.upgrade() {
                    *held.current() = Err(why.clone());
                }
                let _ = tell.blocking_send(Happened::Lost(why));
            }
            Err(error) => {
                *held.current() = Err(error.message().to_owned());
                drop(held);
                thread::sleep(RETRY);
            }
        }
    }
}

fn connect(uri: &str, tell: &mpsc::Sender<Happened>) -> Result<Connect, VirError> {
    let connect = Connect::open(Some(uri))?;
    events::subscribe(&connect, tell)?;
    // The embedded driver has no peer to keep alive, and says so.
    let _ = connect.set_keep_alive(KEEPALIVE_S, KEEPALIVE_MISSES);
    Ok(connect)
}

/// Returns when the connection is dead or nobody wants it any more.
fn watch(connection: &Weak<Connection>, connect: &Connect) {
    while connection.strong_count() > 0 && connect.is_alive().unwrap_or(false) {
        thread::sleep(LOOK);
    }
    events::unsubscribe(connect);
}

pub(super) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
    if let Err(error) = thread {
        tracing::error!(name, %error, "a thread could not be started");
    }
}
