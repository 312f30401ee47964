//! libvirt, over one connection that is made again whenever it breaks.
//!
//! libvirt's calls block, and one that waits for a dead iSCSI target blocks for minutes: each runs
//! on a thread of its own and is given up at its limit. What it does after that is found by looking.

mod connection;
mod events;
mod mark;
mod paused;
mod typing;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::sync::mpsc;
use types::InstanceId;
use virt::{connect::Connect, domain::Domain as VirDomain, error::ErrorNumber, sys};

use super::{EVENTS_MAX, Error, Events, Found, Hypervisor};
use crate::domain::Domain;
use connection::{Connection, is};
use typing::Typists;

/// The first start on a host waits for libvirt to find out what QEMU can do: five seconds here.
const START_LIMIT: Duration = Duration::from_secs(120);
/// libvirt itself gives QEMU 15 s after SIGTERM and 15 more after SIGKILL.
const DESTROY_LIMIT: Duration = Duration::from_secs(45);
/// Buttons and lists answer in milliseconds.
const QUICK_LIMIT: Duration = Duration::from_secs(10);

/// A connection to libvirt.
#[derive(Debug)]
pub struct Libvirt {
    connection: Arc<Connection>,
    typists: Typists,
}

impl Libvirt {
    /// Connects, now and whenever the connection breaks. `Connected` and `Lost` come as events.
    pub fn connect(uri: &str) -> (Self, Events) {
        let (tell, events) = mpsc::channel(EVENTS_MAX);
        let connection = Connection::open(uri, tell);
        (
            Self {
                connection,
                typists: Typists::default(),
            },
            events,
        )
    }

    /// A button of one domain.
    async fn press(
        &self,
        what: &str,
        instance: &InstanceId,
        button: impl FnOnce(&VirDomain) -> Result<(), virt::error::Error> + Send + 'static,
    ) -> Result<(), Error> {
        let name = instance.to_string();
        let pressed = move |connect: &Connect| match lookup(connect, &name)? {
            Some(domain) => button(&domain).map(|()| true),
            None => Ok(false),
        };
        let doing = format!("{what} {instance}");
        match self.connection.call(doing, QUICK_LIMIT, pressed).await? {
            true => Ok(()),
            false => Err(Error::NoDomain(instance.clone())),
        }
    }
}

fn lookup(connect: &Connect, name: &str) -> Result<Option<VirDomain>, virt::error::Error> {
    match connect.lookup_domain_by_name(name) {
        Ok(domain) => Ok(Some(domain)),
        Err(error) if is(&error, ErrorNumber::NoDomain) => Ok(None),
        Err(error) => Err(error),
    }
}

fn start(connect: &Connect, name: &str, xml: &str) -> Result<(), virt::error::Error> {
    match connect.create_domain_xml(xml, sys::VIR_DOMAIN_NONE) {
        Ok(_) => Ok(()),
        // An earlier call that we gave up, or that an earlier process made, came to pass.
        Err(error) => match lookup(connect, name) {
            Ok(Some(domain)) if domain.is_active().unwrap_or(false) => Ok(()),
            _ => Err(error),
        },
    }
}

fn destroy(connect: &Connect, name: &str) -> Result<(), virt::error::Error> {
    let Some(domain) = lookup(connect, name)? else {
        return Ok(());
    };
    match domain.destroy() {
        // It ended by itself between the two calls: a transient domain is then unknown, one that
        // somebody defined is "not running".
        Err(error) if is(&error, ErrorNumber::NoDomain) => Ok(()),
        Err(error) if is(&error, ErrorNumber::OperationInvalid) => Ok(()),
        outcome => outcome,
    }
}

fn list(connect: &Connect) -> Result<Vec<Found>, virt::error::Error> {
    let domains = connect.list_all_domains(sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)?;
    let found = domains.iter().filter_map(|domain| {
        // One that ended since the list was made is not there.
        let name = domain.name().ok()?;
        Some(Found {
            name,
            mark: mark::of(domain),
            paused: paused::of(domain),
        })
    });
    Ok(found.collect())
}

fn resume(domain: &VirDomain) -> Result<(), virt::error::Error> {
    match domain.resume() {
        // It goes on already.
        Err(_) if paused::of(domain).is_none() && domain.is_active().unwrap_or(false) => Ok(()),
        outcome => outcome.map(|_| ()),
    }
}

/// libvirt writes a version as one number: major × 1,000,000 + minor × 1,000 + release.
fn version_text(number: u32) -> String {
    format!(
        "{}.{}.{}",
        number / 1_000_000,
        number / 1_000 % 1_000,
        number % 1_000
    )
}

#[async_trait]
impl Hypervisor for Libvirt {
    async fn start(&self, domain: &Domain) -> Result<(), Error> {
        let (name, xml) = (domain.instance.to_string(), domain.xml());
        let doing = format!("starting {name}");
        self.connection
            .call(doing, START_LIMIT, move |connect| {
                start(connect, &name, &xml)
            })
            .await
    }

    async fn destroy(&self, instance: &InstanceId) -> Result<(), Error> {
        let name = instance.to_string();
        let doing = format!("ending {name}");
        self.connection
            .call(doing, DESTROY_LIMIT, move |connect| destroy(connect, &name))
            .await
    }

    async fn shutdown(&self, instance: &InstanceId) -> Result<(), Error> {
        let acpi =
            |domain: &VirDomain| domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN);
        self.press("shutting down", instance, acpi).await
    }

    async fn reboot(&self, instance: &InstanceId) -> Result<(), Error> {
        let acpi = |domain: &VirDomain| domain.reboot(sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN);
        self.press("rebooting", instance, acpi).await
    }

    async fn resume(&self, instance: &InstanceId) -> Result<(), Error> {
        self.press("resuming", instance, resume).await
    }

    async fn reset(&self, instance: &InstanceId) -> Result<(), Error> {
        self.press("resetting", instance, VirDomain::reset).await
    }

    async fn list(&self) -> Result<Vec<Found>, Error> {
        self.connection
            .call("listing domains".to_owned(), QUICK_LIMIT, list)
            .await
    }

    async fn type_in(&self, instance: &InstanceId, bytes: &[u8]) -> Result<(), Error> {
        self.typists
            .type_in(&self.connection, instance, bytes.to_vec())
            .await
    }

    async fn version(&self) -> Result<String, Error> {
        let versions = |connect: &Connect| Ok((connect.lib_version()?, connect.hyp_version()?));
        let asked = "asking for versions".to_owned();
        let (libvirt, qemu) = self.connection.call(asked, QUICK_LIMIT, versions).await?;
        Ok(format!(
            "libvirt {}, QEMU {}",
            version_text(libvirt),
            version_text(qemu)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_people_write_it() {
        assert_eq!(version_text(9_000_000), "9.0.0");
        assert_eq!(version_text(7_002_015), "7.2.15");
    }
}
