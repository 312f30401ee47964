//! What all parts of the Cloud Controller share.

use std::sync::{Arc, Mutex};

use daemon::{clock::SharedClock, reconcile::Wake};
use image::keys::CloudKey;
use rand::{SeedableRng, rngs::StdRng};
use store::Db;
use types::{Region, ReservationId, Timestamp, Zone};

use crate::{
    config::Config, copies::Copies, identity::Identity, peers::Peers, releases::Releases,
    seal::Seal, seen::Seen, wish::Surroundings,
};

/// The Cloud Controller. Handlers, tasks and the control service hold an `Arc` of it.
pub struct Clc {
    /// The file.
    pub config: Config,
    /// The region, fixed at `init`.
    pub region: Region,
    /// The record of intent.
    pub db: Db,
    /// The time.
    pub clock: SharedClock,
    /// Who may speak to us.
    pub identity: Identity,
    /// Whom we speak to.
    pub peers: Peers,
    /// What they last said.
    pub seen: Seen,
    /// Holds that nobody wants.
    pub releases: Releases,
    /// Who makes a copy of which image.
    pub copies: Copies,
    /// How to make a task look now.
    pub wakes: Wakes,
    /// Seals secrets before they are stored.
    pub seal: Seal,
    /// Unwraps the keys of bundles.
    pub image_key: CloudKey,
    /// Its certificate, for bundlers (`EUCALYPTUS_CERT`).
    pub image_certificate_pem: String,
    rng: Mutex<StdRng>,
}

/// How to make a task look now instead of at its period.
#[derive(Debug, Clone, Default)]
pub struct Wakes {
    /// Instances' wishes changed.
    pub instances: Wake,
    /// Volumes' wishes changed.
    pub volumes: Wake,
    /// A copy of an image is to be made, or an image to be forgotten.
    pub images: Wake,
    /// A network document changed: interfaces, groups, rules, peers.
    pub network: Wake,
    /// A roster changed.
    pub roster: Wake,
    /// A daemon joined or moved.
    pub followers: Wake,
    /// A peer began or ceased to answer.
    pub peers: Wake,
    /// Something may be due to be forgotten.
    pub expire: Wake,
    /// A hold is to be given back.
    pub releases: Wake,
}

/// What a [`Clc`] is made of.
pub struct Parts {
    /// The file.
    pub config: Config,
    /// The region.
    pub region: Region,
    /// The record of intent.
    pub db: Db,
    /// The time.
    pub clock: SharedClock,
    /// Who may speak to us, loaded.
    pub identity: Identity,
    /// Whom we speak to, loaded.
    pub peers: Peers,
    /// Seals secrets.
    pub seal: Seal,
    /// Unwraps the keys of bundles.
    pub image_key: CloudKey,
    /// Its certificate.
    pub image_certificate_pem: String,
    /// Ids, addresses and secrets come from it: fixed in a simulation, else none.
    pub seed: Option<u64>,
}

impl Clc {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Arc<Self> {
        let rng = parts
            .seed
            .map_or_else(rand::make_rng, StdRng::seed_from_u64);
        Arc::new(Self {
            config: parts.config,
            region: parts.region,
            db: parts.db,
            clock: parts.clock,
            identity: parts.identity,
            peers: parts.peers,
            seen: Seen::default(),
            releases: Releases::default(),
            copies: Copies::default(),
            wakes: Wakes::default(),
            seal: parts.seal,
            image_key: parts.image_key,
            image_certificate_pem: parts.image_certificate_pem,
            rng: Mutex::new(rng),
        })
    }

    /// What every wish has in common.
    pub fn surroundings(&self) -> Surroundings {
        Surroundings {
            region: self.region.clone(),
            domain: self.config.domain(&self.region),
        }
    }

    /// Now, as it is written into records.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.clock.now_ms())
    }

    /// Has a hold given back, whether or not it stands.
    pub fn release(&self, zone: &Zone, reservation: &ReservationId) {
        let now_ms = self.clock.monotonic_ms();
        self.releases.add(zone.clone(), reservation.clone(), now_ms);
        self.wakes.releases.wake();
    }

    /// Makes something random: `clc.mint(|rng| InstanceId::mint(rng))`.
    pub fn mint<T>(&self, make: impl FnOnce(&mut StdRng) -> T) -> T {
        make(&mut self.rng.lock().expect("making an id does not panic"))
    }
}
