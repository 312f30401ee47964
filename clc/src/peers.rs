//! Whom we may ask: each zone's Cluster and Storage Controller, and Walrus.
//!
//! They join and move; the rows say where they are, and [`Peers::set`] takes that up. A handler
//! asks for the peer each time and never keeps it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, RwLock},
};

use control::{Client, Cluster, Objects, Role, Storage};
use daemon::tls::Tls;
use types::Zone;

use crate::rows::services::ServiceRow;

/// How peers are reached: over mutual TLS, or in a simulation directly.
pub trait Connect: Send + Sync {
    /// The Cluster Controller of a zone.
    fn cluster(&self, zone: &Zone, address: SocketAddr) -> Arc<dyn Cluster>;
    /// The Storage Controller of a zone.
    fn storage(&self, zone: &Zone, address: SocketAddr) -> Arc<dyn Storage>;
    /// Walrus.
    fn objects(&self, address: SocketAddr) -> Arc<dyn Objects>;
}

/// Over mutual TLS. A peer must prove its role and its name.
pub struct OverTls(pub Tls);

impl Connect for OverTls {
    fn cluster(&self, zone: &Zone, address: SocketAddr) -> Arc<dyn Cluster> {
        let config = self.0.client_config();
        Arc::new(Client::new(&config, address, Role::Cc, Some(zone.as_str())))
    }

    fn storage(&self, zone: &Zone, address: SocketAddr) -> Arc<dyn Storage> {
        let config = self.0.client_config();
        Arc::new(Client::new(&config, address, Role::Sc, Some(zone.as_str())))
    }

    fn objects(&self, address: SocketAddr) -> Arc<dyn Objects> {
        Arc::new(Client::new(
            &self.0.client_config(),
            address,
            Role::Walrus,
            None,
        ))
    }
}

/// The peers that have joined.
pub struct Peers {
    connect: Box<dyn Connect>,
    known: RwLock<Known>,
}

type Reached<T> = (SocketAddr, Arc<T>);

#[derive(Default)]
struct Known {
    clusters: BTreeMap<Zone, Reached<dyn Cluster>>,
    storages: BTreeMap<Zone, Reached<dyn Storage>>,
    objects: Option<Reached<dyn Objects>>,
}

impl Peers {
    /// Knows nobody yet.
    pub fn new(connect: impl Connect + 'static) -> Self {
        Self {
            connect: Box::new(connect),
            known: RwLock::default(),
        }
    }

    /// Takes up where everybody is. Connections to those that stayed are kept.
    pub fn set(&self, services: &[ServiceRow]) {
        let mut known = self
            .known
            .write()
            .expect("no one panics while holding this lock");
        for service in services {
            let address = service.address;
            match (service.role, &service.zone) {
                (Role::Cc, Some(zone)) => {
                    if known
                        .clusters
                        .get(zone)
                        .is_none_or(|(at, _)| *at != address)
                    {
                        let cluster = self.connect.cluster(zone, address);
                        known.clusters.insert(zone.clone(), (address, cluster));
                    }
                }
                (Role::Sc, Some(zone)) => {
                    if known
                        .storages
                        .get(zone)
                        .is_none_or(|(at, _)| *at != address)
                    {
                        let storage = self.connect.storage(zone, address);
                        known.storages.insert(zone.clone(), (address, storage));
                    }
                }
                (Role::Walrus, _) => {
                    if known.objects.as_ref().is_none_or(|(at, _)| *at != address) {
                        known.objects = Some((address, self.connect.objects(address)));
                    }
                }
                (Role::Clc | Role::Nc | Role::Admin, _) | (Role::Cc | Role::Sc, None) => {}
            }
        }
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known
            .read()
            .expect("no one panics while holding this lock")
    }

    /// The zones that have a Cluster Controller.
    pub fn zones(&self) -> Vec<Zone> {
        self.known().clusters.keys().cloned().collect()
    }

    /// The zones that have a Storage Controller.
    pub fn storage_zones(&self) -> Vec<Zone> {
        self.known().storages.keys().cloned().collect()
    }

    /// The Cluster Controller of a zone, if one has joined.
    pub fn cluster(&self, zone: &Zone) -> Option<Arc<dyn Cluster>> {
        self.known()
            .clusters
            .get(zone)
            .map(|(_, cluster)| cluster.clone())
    }

    /// The Storage Controller of a zone, if one has joined.
    pub fn storage(&self, zone: &Zone) -> Option<Arc<dyn Storage>> {
        self.known()
            .storages
            .get(zone)
            .map(|(_, storage)| storage.clone())
    }

    /// Walrus, if it has joined.
    pub fn objects(&self) -> Option<Arc<dyn Objects>> {
        self.known()
            .objects
            .as_ref()
            .map(|(_, objects)| objects.clone())
    }
}
