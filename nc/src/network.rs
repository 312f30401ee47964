//! This node's part in the network document: the newest one is held on disk, applied whole, and
//! acknowledged VPC by VPC as it is so.
//!
//! What a document means is compiled by `net`; nothing is decided here. A document is on disk before
//! it is acknowledged as taken, so that a node that restarts, or boots while all above it are away,
//! gives its guests the network they had.

mod apply;
mod held;
mod in_place;
mod leases;
mod tools;

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use control::{
    CallError,
    node::{InterfaceSpec, NetworkTaken},
};
use daemon::{BoxError, Context, reconcile::Wake};
use net::{Applier, LinuxApplier, NodeNetwork, Run, run::Command};
use tokio::sync::watch;
use types::{NodeId, VpcId, network::NetworkDocument};

use crate::{config, needs::Networks, residents::Residents, signs::Signs};
use held::Held;
pub use in_place::InPlace;
pub use tools::HostTools;

/// Where the host's resolvers are named.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// A VPC whose network is in place on this node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which VPC.
    pub vpc: VpcId,
    /// Its namespace.
    pub namespace: String,
}

/// The network of this node.
pub struct Network {
    node: NodeNetwork,
    held: Held,
    applier: Arc<dyn Applier>,
    run: Arc<dyn Run>,
    applied: watch::Sender<Arc<InPlace>>,
    places: watch::Sender<Arc<Vec<Place>>>,
    wake: Wake,
}

impl Network {
    /// The network with the host's own tools, and the document that an earlier life held.
    pub fn open(state: &Path, node: NodeNetwork) -> Result<Arc<Self>, BoxError> {
        let run: Arc<dyn Run> = Arc::new(HostTools);
        let applier = Arc::new(LinuxApplier::new(node.clone(), run.clone()));
        Self::with(state, node, applier, run)
    }

    /// The network with another applier: for tests and simulations.
    pub fn with(
        state: &Path,
        node: NodeNetwork,
        applier: Arc<dyn Applier>,
        run: Arc<dyn Run>,
    ) -> Result<Arc<Self>, BoxError> {
        node.check()?;
        Ok(Arc::new(Self {
            node,
            held: Held::load(state)?,
            applier,
            run,
            applied: watch::Sender::default(),
            places: watch::Sender::default(),
            wake: Wake::new(),
        }))
    }

    /// Starts applying what is held, and what is offered from now on; and watching for leases.
    pub fn start(self: &Arc<Self>, context: &Context, residents: Residents, signs: Signs) {
        let ready = context.ready.condition("network");
        let reconciler = apply::ApplyNetwork::new(self.clone(), ready);
        context.reconcile(reconciler, self.wake.clone());
        leases::watch(self.clone(), context, residents, signs);
    }

    /// The VPCs that are in place, and every change of them.
    pub fn places(&self) -> watch::Receiver<Arc<Vec<Place>>> {
        self.places.subscribe()
    }

    /// The newest version that was taken; 0 for none.
    pub fn held_version(&self) -> u64 {
        self.held.document().map_or(0, |document| document.version)
    }
}

#[async_trait]
impl Networks for Network {
    async fn offer(&self, document: NetworkDocument) -> Result<NetworkTaken, CallError> {
        let (version, newer) = self
            .held
            .take(document)
            .await
            .map_err(|error| CallError::internal(&error))?;
        if newer {
            self.wake.wake();
        }
        Ok(NetworkTaken { version })
    }

    fn applied(&self) -> watch::Receiver<Arc<InPlace>> {
        self.applied.subscribe()
    }

    /// Nothing is left to do: guards, groups and public addresses name the tap and were in place
    /// before it was.
    async fn plugged(&self, _interface: &InterfaceSpec) -> Result<(), BoxError> {
        Ok(())
    }

    async fn unplugged(&self, interface: &InterfaceSpec) -> Result<(), BoxError> {
        let tap = interface.short.name(net::names::TAP);
        let answer = self
            .run
            .run(Command::new(["ip", "link", "del", "dev", &tap]))
            .await?;
        if answer.success || answer.stderr.contains("Cannot find device") {
            return Ok(());
        }
        Err(format!("tap {tap} cannot be removed: {}", answer.stderr.trim()).into())
    }
}

/// This node's own settings as `net` wants them.
pub fn node_network(
    settings: &config::Network,
    control: SocketAddr,
    node: NodeId,
) -> Result<NodeNetwork, BoxError> {
    let forwarders = if settings.forwarders.is_empty() {
        resolvers(&fs::read_to_string(RESOLV_CONF).unwrap_or_default())
    } else {
        settings.forwarders.clone()
    };
    Ok(NodeNetwork {
        node,
        underlay: underlay(settings, control)?,
        namespace_prefix: settings.namespace_prefix.clone(),
        public_bridge: Some(settings.public_bridge.clone()).filter(|bridge| !bridge.is_empty()),
        forwarders,
        connections_max: settings.connections_max,
        run_dir: settings.run_dir.clone(),
    })
}

/// The configured underlay address, or the one that control calls are taken on.
pub fn underlay(settings: &config::Network, control: SocketAddr) -> Result<Ipv4Addr, BoxError> {
    match (settings.underlay, control.ip()) {
        (Some(underlay), _) => Ok(underlay),
        (None, IpAddr::V4(address)) if !address.is_unspecified() => Ok(address),
        (None, _) => {
            Err("network.underlay must be set: control.listen names no IPv4 address".into())
        }
    }
}

/// The resolvers of a `resolv.conf` that a VPC's namespace could reach: a stub on the loopback is
/// the host's alone.
fn resolvers(text: &str) -> Vec<Ipv4Addr> {
    let words = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"));
    let addresses = words.filter_map(|word| word.trim().parse().ok());
    addresses
        .filter(|address: &Ipv4Addr| !address.is_loopback())
        .collect()
}

#[cfg(test)]
mod tests;
