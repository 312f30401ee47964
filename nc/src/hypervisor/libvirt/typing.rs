//! Typing into serial consoles.
//!
//! QEMU looks only once a second whether somebody has opened the console's pty, and what was typed
//! is lost if it is closed before that. So a console stays open for a while after the last key, and
//! its output is thrown away meanwhile: it is in the log, and a pty that nobody reads would stop
//! the guest's writes.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use types::InstanceId;
use virt::{connect::Connect, stream::Stream, sys};

use super::connection::{Connection, spawn};
use crate::hypervisor::Error;

/// How long a console stays open after the last key: a person thinks for this long.
const IDLE: Duration = Duration::from_secs(30);
/// How often output is thrown away.
const LOOK: Duration = Duration::from_millis(30);
/// Messages that wait for a guest that does not read.
const WAITING_MAX: usize = 16;
/// Opening a console takes milliseconds.
const OPEN_LIMIT: Duration = Duration::from_secs(10);

type Keys = SyncSender<Vec<u8>>;

/// The consoles that are open for typing.
#[derive(Debug, Default)]
pub(super) struct Typists(Arc<Mutex<HashMap<InstanceId, Keys>>>);

impl Typists {
    /// Types into a console, opening it first if need be.
    pub(super) async fn type_in(
        &self,
        connection: &Connection,
        instance: &InstanceId,
        bytes: Vec<u8>,
    ) -> Result<(), Error> {
        let open = self.lock().get(instance).cloned();
        let Some(bytes) = open.map_or(Ok(Some(bytes.clone())), |keys| {
            press(&keys, instance, bytes)
        })?
        else {
            return Ok(());
        };
        let keys = self.open(connection, instance).await?;
        match press(&keys, instance, bytes)? {
            None => Ok(()),
            Some(_) => Err(Error::NoDomain(instance.clone())),
        }
    }

    async fn open(&self, connection: &Connection, instance: &InstanceId) -> Result<Keys, Error> {
        let name = instance.to_string();
        let doing = format!("opening the console of {name}");
        let opened = connection
            .call(doing, OPEN_LIMIT, move |connect| open(connect, &name))
            .await?;
        let stream = opened.ok_or_else(|| Error::NoDomain(instance.clone()))?;
        let (keys, pressed) = sync_channel(WAITING_MAX);
        self.lock().insert(instance.clone(), keys.clone());
        let (all, instance) = (self.0.clone(), instance.clone());
        spawn("console", move || {
            serve(&stream, &pressed);
            let _ = stream.abort();
            drop(pressed);
            // A newer session of the same console may be there already; a dead one is replaced.
            let mut all = all.lock().expect("no one panics while holding this lock");
            let is_dead = |keys: &Keys| {
                matches!(
                    keys.try_send(Vec::new()),
                    Err(TrySendError::Disconnected(_))
                )
            };
            if all.get(&instance).is_some_and(is_dead) {
                all.remove(&instance);
            }
        });
        Ok(keys)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<InstanceId, Keys>> {
        self.0
            .lock()
            .expect("no one panics while holding this lock")
    }
}

/// Gives the bytes back if the session is over.
fn press(keys: &Keys, instance: &InstanceId, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    match keys.try_send(bytes) {
        Ok(()) => Ok(None),
        Err(TrySendError::Disconnected(bytes)) => Ok(Some(bytes)),
        Err(TrySendError::Full(_)) => Err(Error::Refused {
            doing: format!("typing into the console of {instance}"),
            why: "the guest does not read".to_owned(),
        }),
    }
}

fn open(connect: &Connect, name: &str) -> Result<Option<Stream>, virt::error::Error> {
    let Some(domain) = super::lookup(connect, name)? else {
        return Ok(None);
    };
    let stream = Stream::new(connect, sys::VIR_STREAM_NONBLOCK)?;
    // Whoever else had it open (an earlier process of ours) loses it.
    domain.open_console(None, &stream, sys::VIR_DOMAIN_CONSOLE_FORCE)?;
    Ok(Some(stream))
}

/// Types what comes, until nothing comes for a while or the guest is gone.
fn serve(stream: &Stream, pressed: &Receiver<Vec<u8>>) {
    let mut last = Instant::now();
    while drain(stream) {
        match pressed.recv_timeout(LOOK) {
            Ok(bytes) if send(stream, &bytes) => last = Instant::now(),
            Err(RecvTimeoutError::Timeout) if last.elapsed() < IDLE => {}
            Ok(_) | Err(_) => return,
        }
    }
}

/// Throws away what there is to read. False at the end of the stream.
fn drain(stream: &Stream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match stream.recv(&mut buffer) {
            Ok(count) if count > 0 => {}
            // -2: nothing more for now.
            Ok(count) => return count < 0,
            Err(_) => return false,
        }
    }
}

fn send(stream: &Stream, mut bytes: &[u8]) -> bool {
    let until = Instant::now() + OPEN_LIMIT;
    while !bytes.is_empty() && Instant::now() < until {
        match stream.send(bytes) {
            Ok(count) if count > 0 => {
                bytes = bytes.get(count.unsigned_abs()..).unwrap_or_default();
            }
            Ok(_) => {
                drain(stream);
                thread::sleep(LOOK);
            }
            Err(_) => return false,
        }
    }
    bytes.is_empty()
}
