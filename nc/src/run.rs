//! From a configuration to a running node, and joining a cloud.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use control::{
    Member, Role,
    newcomer::{self, Plan},
};
use daemon::{BoxError, Context, examine::NodeWanted};
use tokio::sync::watch;
use types::NodeId;

use crate::{
    adopt::AdoptInstances,
    api::Api,
    bandwidth::Bandwidth,
    bundle::{Bundler, CloudBundleTickets},
    cache::{self, Cache, CloudTickets, tidy::TidyCache},
    config::{Accelerator, Config},
    disk::LocalDisks,
    domain::Host,
    hypervisor::{Events, Hypervisor, libvirt::Libvirt},
    keepers::Keepers,
    metadata,
    network::{self, Network},
    record,
    residents::Residents,
    resources,
    signs::Signs,
    site::{Parts, Site},
    tasks::{self, ReportNode, TrimConsoles, report_node::InstanceCounts},
};

/// GRUB's modules for BIOS machines, as Debian's grub-pc-bin has them.
const GRUB_MODULES: &str = "/usr/lib/grub/i386-pc";

/// How long `join` waits for libvirt, which may be started by its socket.
const CONNECT_LIMIT: std::time::Duration = std::time::Duration::from_secs(5);

/// Opens what the node needs and starts its tasks on the context.
pub async fn run(config: Config, context: Context) -> anyhow::Result<()> {
    let member = Member::open(&context.tls_dir(), Role::Nc)?;
    let node: NodeId = member
        .peer()
        .name
        .parse()
        .context("the name in our certificate")?;
    // QEMU, which runs as another user, reaches disks and images through these folders.
    let instances = instances_dir(&config);
    for folder in [&config.state_dir, &instances] {
        record::make_reachable(folder)?;
    }

    let residents = Residents::default();
    let (signs, signs_told) = Signs::new();
    let (hypervisor, events) = Libvirt::connect(&config.hypervisor.uri);
    let settings = network::node_network(&config.network, config.control.listen, node.clone())
        .map_err(anyhow::Error::from_boxed)?;
    let network = Network::open(&config.state_dir, settings).map_err(anyhow::Error::from_boxed)?;
    let boot_id = resources::boot_id()?;
    let templates = config.state_dir.join("templates");
    let bandwidth = bandwidth(&config);
    let cache = cache(&config, &member, &node, bandwidth.clone());
    let found = resources::Found::look(&instances, promised(&cache, &instances).await)?;
    let disks = LocalDisks::new(cache.clone(), &templates, &boot_id)
        .with_context(|| format!("templates of disks in {}", templates.display()))?
        .injecting(config.storage.inject_keys);
    let cloud = Arc::new(member.cloud.clone());
    let tickets = Arc::new(CloudBundleTickets(cloud));
    let trust = member.tls.client_config();
    let bundler = Bundler::new(tickets, &trust, disks.clone(), bandwidth.outgoing);
    let parts = Parts {
        hypervisor: Arc::new(hypervisor),
        disks: Arc::new(disks),
        bundles: Arc::new(bundler),
        networks: network.clone(),
        residents: residents.clone(),
        clock: context.clock.clone(),
    };
    let host = host(&config, node);
    let site = Site::new(instances, host, boot_id, config.limits.clone(), parts);
    let keepers = Keepers::new(site, context.clone());

    network.start(&context, residents.clone(), signs.clone());
    metadata::start(&context, &network, residents, signs).map_err(anyhow::Error::from_boxed)?;
    watch(
        &config, &context, &keepers, &cache, found, events, signs_told,
    )?;
    let zone = member.peer().zone.clone();
    let blocks = control::blocks::routes(zone, cache.serving());
    let routes = control::node::routes(Api::new(keepers, cache)).merge(blocks);
    let served = member.serve(&context, config.control.listen, routes).await;
    served.map_err(anyhow::Error::from_boxed)
}

fn host(config: &Config, node: NodeId) -> Host {
    let accel = config
        .hypervisor
        .accelerator
        .choose(daemon::examine::host_has_kvm());
    tracing::info!(accelerator = accel.as_str(), "how guests are run");
    Host {
        node,
        accel,
        emulator: config.hypervisor.emulator.clone(),
        cache: config.hypervisor.cache,
        vnc: config.hypervisor.vnc,
    }
}

/// What images may take of the network that nodes and Walrus are reached through.
fn bandwidth(config: &Config) -> Bandwidth {
    let listen = match config.control.listen.ip() {
        IpAddr::V4(address) if !address.is_unspecified() => Some(address),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    };
    let own_address = config.network.underlay.or(listen);
    Bandwidth::configured(config.network.images_mib_per_s, own_address)
}

fn cache(config: &Config, member: &Member, node: &NodeId, bandwidth: Bandwidth) -> Cache {
    let limit_gib = u64::from(config.storage.cache_gib);
    let settings = cache::Settings {
        folder: cache_dir(config),
        node: node.clone(),
        limit_bytes: (limit_gib > 0).then_some(limit_gib << 30),
        grub: PathBuf::from(GRUB_MODULES),
        tls: member.tls.client_config(),
        lease: cache::lease::LeaseTimes::default(),
        patience: cache::files::PATIENCE,
        peers: cache::peers::PeerTimes::default(),
        bandwidth,
    };
    let tickets = CloudTickets(Arc::new(member.cloud.clone()));
    Cache::new(settings, Arc::new(tickets))
}

/// What the cache may still take of the file system of that folder. One that does not answer holds
/// up no start: guests run, and are looked after.
async fn promised(cache: &Cache, instances: &Path) -> u64 {
    match cache.to_come_bytes_beside(instances).await {
        Ok(bytes) => bytes,
        Err(error) => {
            tracing::error!(%error, "starting without the image cache");
            0
        }
    }
}

/// Starts what goes on besides keeping instances.
fn watch(
    config: &Config,
    context: &Context,
    keepers: &Keepers,
    cache: &Cache,
    found: resources::Found,
    events: Events,
    signs: tokio::sync::mpsc::Receiver<(types::InstanceId, crate::signs::Sign)>,
) -> anyhow::Result<()> {
    let site = keepers.site().clone();
    let state = watch::Sender::new(Err("not connected to the hypervisor yet".to_owned()));
    let report = ReportNode {
        keepers: keepers.clone(),
        hostname: control::join::hostname(),
        underlay: network::underlay(&config.network, config.control.listen)
            .map_err(anyhow::Error::from_boxed)?,
        capacity: found.capacity(&config.capacity),
        hypervisor: state.subscribe(),
        cache: cache.clone(),
        ready: context.ready.condition("hypervisor"),
        cache_ready: context.ready.condition("image-cache"),
        instances: InstanceCounts::new(&context.metrics),
    };
    let watching = tasks::watch_domains(
        keepers.clone(),
        events,
        signs,
        state,
        context.cancel.clone(),
    );
    context.spawn("watch_domains", watching);
    context.reconcile(AdoptInstances::new(keepers.clone()), keepers.look.clone());
    context.reconcile(report, site.changed.clone());
    let trim = TrimConsoles {
        residents: site.residents.clone(),
        instances: site.instances.clone(),
    };
    context.reconcile(trim, daemon::reconcile::Wake::new());

    let tidy = TidyCache::new(cache.clone(), Arc::new(keepers.clone()));
    context.reconcile(tidy, daemon::reconcile::Wake::new());

    let (mut applied, stop) = (site.networks.applied(), context.cancel.clone());
    let mut silent_since = cache.silent_since();
    context.spawn("watch_changes", async move {
        while tokio::select! {
            () = stop.cancelled() => false,
            changed = applied.changed() => changed.is_ok(),
            changed = silent_since.changed() => changed.is_ok(),
        } {
            site.changed.wake();
        }
        Ok::<(), BoxError>(())
    });
    Ok(())
}

/// Joins a cloud with a token from `mallee-clc token --role nc --zone ZONE`, after a look at the
/// host: what would not work is said now, with what to do about it.
pub async fn join(config: Config, token: &str) -> anyhow::Result<()> {
    let plan = Plan {
        role: Role::Nc,
        state: config.state_dir.clone(),
        serves: config.control.listen,
        listens: vec![config.admin.listen],
        pool: None,
        node: Some(NodeWanted {
            cache: cache_dir(&config),
            libvirt_socket: libvirt_socket(&config.hypervisor.uri),
            kvm_required: config.hypervisor.accelerator == Accelerator::Kvm,
        }),
    };
    newcomer::become_member(&plan, token).await?;
    if let Err(error) = try_hypervisor(&config).await {
        eprintln!("warn {}: {error:#}", config.hypervisor.uri);
        eprintln!("     fix: start libvirtd, or name another hypervisor.uri in the configuration");
    }
    Ok(())
}

/// Talks to the hypervisor once, as the daemon will.
async fn try_hypervisor(config: &Config) -> anyhow::Result<()> {
    let (libvirt, mut events) = Libvirt::connect(&config.hypervisor.uri);
    tokio::time::timeout(CONNECT_LIMIT, events.recv())
        .await
        .with_context(|| format!("no connection in {} s", CONNECT_LIMIT.as_secs()))?;
    libvirt.list().await?;
    Ok(())
}

/// The socket in a URI like `qemu+unix:///system?socket=/path`, or the usual one of a local URI.
fn libvirt_socket(uri: &str) -> Option<PathBuf> {
    if let Some((_, query)) = uri.split_once('?') {
        return query
            .split('&')
            .find_map(|part| part.strip_prefix("socket="))
            .map(PathBuf::from);
    }
    let is_local = uri == "qemu:///system" || uri == "qemu+unix:///system";
    is_local.then(|| PathBuf::from("/run/libvirt/libvirt-sock"))
}

fn instances_dir(config: &Config) -> PathBuf {
    config
        .storage
        .instances
        .clone()
        .unwrap_or_else(|| config.state_dir.join("instances"))
}

fn cache_dir(config: &Config) -> PathBuf {
    config
        .storage
        .cache
        .clone()
        .unwrap_or_else(|| config.state_dir.join("cache"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_uri_is_known_where_it_is_local() {
        let socket = |uri| libvirt_socket(uri).map(|path| path.display().to_string());
        let usual = Some("/run/libvirt/libvirt-sock".to_owned());
        assert_eq!(socket("qemu:///system"), usual);
        let own = socket("qemu+unix:///system?socket=/n1/libvirt-sock");
        assert_eq!(own, Some("/n1/libvirt-sock".to_owned()));
        assert_eq!(socket("qemu+ssh://other/system"), None);
    }
}
