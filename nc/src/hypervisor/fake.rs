//! A hypervisor without guests: it takes time, fails when told to, sends events, loses its
//! connection, and its domains outlive whoever talks to it, as QEMU's do.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::sync::mpsc;
use types::InstanceId;

use super::{EVENTS_MAX, Error, Events, Found, Happened, Hypervisor, Mark};
use crate::{
    domain::Domain,
    instance::{Cause, End},
};

/// How the fake behaves from now on.
#[derive(Debug, Clone)]
pub struct Manners {
    /// How long a start takes.
    pub start_takes: Duration,
    /// How long everything else takes.
    pub call_takes: Duration,
    /// What starts fail with.
    pub start_fails: Option<String>,
    /// What destroys fail with.
    pub destroy_fails: Option<String>,
    /// Whether guests obey the power button.
    pub guests_obey: bool,
    /// Whether guests that are resumed stop at once again, since their disk still cannot be written.
    pub disks_fail: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            start_takes: Duration::from_millis(400),
            call_takes: Duration::from_millis(10),
            start_fails: None,
            destroy_fails: None,
            guests_obey: true,
            disks_fail: false,
        }
    }
}

/// A domain that "runs".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FakeDomain {
    /// What it was started from.
    pub domain: Domain,
    /// Stands for QEMU's pid: differs for every start.
    pub pid: u32,
    /// What was typed into its console.
    pub typed: Vec<u8>,
    /// Resets so far.
    pub resets: u32,
    /// Why it stands still, if it does.
    pub paused: Option<Cause>,
    /// Times that it was resumed.
    pub resumes: u32,
}

/// The fake. Cheap to clone; all clones are one hypervisor.
#[derive(Debug, Clone, Default)]
pub struct FakeHypervisor(Arc<Mutex<Host>>);

#[derive(Debug, Default)]
struct Host {
    manners: Manners,
    domains: BTreeMap<String, FakeDomain>,
    starts: u32,
    reachable: Option<String>,
    events: Option<mpsc::Sender<Happened>>,
}

impl Host {
    fn tell(&self, event: Happened) {
        if let Some(events) = &self.events {
            let _ = events.try_send(event);
        }
    }

    fn pause(&mut self, name: &str, cause: Cause) {
        if let Some(domain) = self.domains.get_mut(name) {
            domain.paused = Some(cause.clone());
            self.tell(Happened::Paused(name.to_owned(), cause));
        }
    }

    fn end(&mut self, name: &str, end: End) {
        if self.domains.remove(name).is_some() {
            self.tell(Happened::Gone(name.to_owned(), end));
        }
    }
}

impl FakeHypervisor {
    /// A connection to the hypervisor: from now on events come here, to nobody else.
    pub fn connect(&self) -> Events {
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        let _ = tell.try_send(Happened::Connected);
        self.lock().events = Some(tell);
        events
    }

    /// Changes how it behaves.
    pub fn behave(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut self.lock().manners);
    }

    /// What runs.
    pub fn domains(&self) -> BTreeMap<String, FakeDomain> {
        self.lock().domains.clone()
    }

    /// How many domains were ever started.
    pub fn starts(&self) -> u32 {
        self.lock().starts
    }

    /// Lets a domain end by itself.
    pub fn end(&self, instance: &InstanceId, end: End) {
        self.lock().end(instance.as_str(), end);
    }

    /// Lets a domain stand still.
    pub fn pause(&self, instance: &InstanceId, cause: Cause) {
        let mut host = self.lock();
        host.pause(instance.as_str(), cause);
    }

    /// Lets a domain stand still while nobody hears of it.
    pub fn pause_unseen(&self, instance: &InstanceId, cause: Cause) {
        if let Some(domain) = self.lock().domains.get_mut(instance.as_str()) {
            domain.paused = Some(cause);
        }
    }

    /// Lets a domain go on while nobody hears of it.
    pub fn resume_unseen(&self, instance: &InstanceId) {
        if let Some(domain) = self.lock().domains.get_mut(instance.as_str()) {
            domain.paused = None;
        }
    }

    /// Lets a domain end while nobody hears of it.
    pub fn end_unseen(&self, instance: &InstanceId) {
        self.lock().domains.remove(instance.as_str());
    }

    /// Puts a domain there that somebody else made.
    pub fn put_foreign(&self, name: &str, domain: Domain) {
        let foreign = FakeDomain {
            domain,
            pid: 1,
            typed: Vec::new(),
            resets: 0,
            paused: None,
            resumes: 0,
        };
        self.lock().domains.insert(name.to_owned(), foreign);
    }

    /// The connection breaks; calls fail until [`Self::restore`].
    pub fn lose(&self, why: &str) {
        let mut host = self.lock();
        host.reachable = Some(why.to_owned());
        host.tell(Happened::Lost(why.to_owned()));
    }

    /// The connection is back.
    pub fn restore(&self) {
        let mut host = self.lock();
        host.reachable = None;
        host.tell(Happened::Connected);
    }

    fn lock(&self) -> MutexGuard<'_, Host> {
        self.0
            .lock()
            .expect("no one panics while holding this lock")
    }

    async fn reach(&self) -> Result<MutexGuard<'_, Host>, Error> {
        let takes = self.lock().manners.call_takes;
        tokio::time::sleep(takes).await;
        let host = self.lock();
        match &host.reachable {
            Some(why) => Err(Error::Unreachable(why.clone())),
            None => Ok(host),
        }
    }
}

fn there<'a>(host: &'a mut Host, instance: &InstanceId) -> Result<&'a mut FakeDomain, Error> {
    host.domains
        .get_mut(instance.as_str())
        .ok_or_else(|| Error::NoDomain(instance.clone()))
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    async fn start(&self, domain: &Domain) -> Result<(), Error> {
        let takes = self.lock().manners.start_takes;
        tokio::time::sleep(takes).await;
        let mut host = self.reach().await?;
        let name = domain.instance.to_string();
        if let Some(why) = host.manners.start_fails.clone() {
            return Err(Error::Refused {
                doing: format!("starting {name}"),
                why,
            });
        }
        if host.domains.contains_key(&name) {
            return Ok(());
        }
        host.starts += 1;
        let pid = 1000 + host.starts;
        let started = FakeDomain {
            domain: domain.clone(),
            pid,
            typed: Vec::new(),
            resets: 0,
            paused: None,
            resumes: 0,
        };
        host.domains.insert(name.clone(), started);
        host.tell(Happened::Running(name));
        Ok(())
    }

    async fn destroy(&self, instance: &InstanceId) -> Result<(), Error> {
        let mut host = self.reach().await?;
        if let Some(why) = host.manners.destroy_fails.clone() {
            return Err(Error::Refused {
                doing: format!("ending {instance}"),
                why,
            });
        }
        host.end(
            instance.as_str(),
            End::Crashed("it was destroyed".to_owned()),
        );
        Ok(())
    }

    async fn shutdown(&self, instance: &InstanceId) -> Result<(), Error> {
        let mut host = self.reach().await?;
        let hears = there(&mut host, instance)?.paused.is_none();
        if hears && host.manners.guests_obey {
            host.end(instance.as_str(), End::PoweredOff);
        }
        Ok(())
    }

    async fn reboot(&self, instance: &InstanceId) -> Result<(), Error> {
        let mut host = self.reach().await?;
        let obeys = host.manners.guests_obey;
        let domain = there(&mut host, instance)?;
        if obeys && domain.paused.is_none() {
            domain.resets += 1;
            host.tell(Happened::Reset(instance.to_string()));
        }
        Ok(())
    }

    async fn resume(&self, instance: &InstanceId) -> Result<(), Error> {
        let mut host = self.reach().await?;
        let domain = there(&mut host, instance)?;
        if domain.paused.take().is_some() {
            domain.resumes += 1;
            host.tell(Happened::Resumed(instance.to_string()));
            if host.manners.disks_fail {
                host.pause(instance.as_str(), Cause::Disk);
            }
        }
        Ok(())
    }

    async fn reset(&self, instance: &InstanceId) -> Result<(), Error> {
        let mut host = self.reach().await?;
        there(&mut host, instance)?.resets += 1;
        host.tell(Happened::Reset(instance.to_string()));
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        let host = self.reach().await?;
        let found = host.domains.iter().map(|(name, there)| {
            // What somebody else made bears another name than the domain in it, and no mark.
            let ours = *name == there.domain.instance.to_string();
            let mark = ours.then(|| Mark {
                node: there.domain.host.node.clone(),
                epoch: there.domain.epoch,
            });
            Found {
                name: name.clone(),
                mark,
                paused: there.paused.clone(),
            }
        });
        Ok(found.collect())
    }

    async fn type_in(&self, instance: &InstanceId, bytes: &[u8]) -> Result<(), Error> {
        let mut host = self.reach().await?;
        there(&mut host, instance)?.typed.extend_from_slice(bytes);
        Ok(())
    }

    async fn version(&self) -> Result<String, Error> {
        self.reach().await.map(|_| "fake 1.0".to_owned())
    }
}
