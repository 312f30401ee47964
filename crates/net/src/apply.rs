//! Makes a desired state so. Idempotent and whole: it looks at what is there, does the difference,
//! and removes what is no longer named. It may be killed at any point; the next application goes on
//! from what it finds.
//!
//! After a complete application, one of another version takes the short way of [`crate::amend`]; the
//! same version again, and each one after a while, looks at everything.
//!
//! A VPC that fails does not keep the others from being applied; the node's own ruleset comes first
//! and is a condition for all of them, since without it a guest could claim any address.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use nix::net::if_::if_nametoindex;
use serde::Deserialize;
use types::{MacAddr, VpcId};

use crate::{
    actual::{self, Link, NodeState, VpcState},
    amend::{self, Amendment},
    check::Problem,
    config::NodeNetwork,
    desired::{Desired, VpcNetwork},
    dhcp, dnsmasq,
    error::{Error, answer, tool},
    names::UPLINK,
    namespace, plan,
    rules::{self, Seal},
    run::{Command, Run},
};

/// Bridged packets pass the `ip` hooks by each bridge's own switch, never by the global one: other
/// bridges of the host are not our business.
const NODE_PARAMETERS: &[(&str, &str)] = &[
    ("bridge/bridge-nf-call-iptables", "0"),
    ("bridge/bridge-nf-call-ip6tables", "0"),
    ("bridge/bridge-nf-call-arptables", "0"),
];
/// A VPC routes. With a gateway on every node its paths are asymmetric (`rp_filter`), and a guest
/// that calls its neighbour by a public address is not to be redirected.
const VPC_PARAMETERS: &[(&str, &str)] = &[
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/disable_ipv6", "1"),
    ("ipv6/conf/default/disable_ipv6", "1"),
];
/// Outside, only public addresses are answered for, and they are announced.
const UPLINK_PARAMETERS: &[(&str, &str)] = &[
    ("ipv4/conf/uplink/arp_ignore", "1"),
    ("ipv4/conf/uplink/arp_notify", "1"),
];
/// How long a new port is waited for; the kernel's link watch runs once a second.
const FORWARDING_STEPS: u32 = 75;
const FORWARDING_STEP: Duration = Duration::from_millis(20);
/// How long a look at the host is believed, so that launches in a row do not put off repairs.
const BELIEVED: Duration = Duration::from_secs(60);

/// What an application came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// The version that was asked for.
    pub version: u64,
    /// How many things were done; none when all was so already.
    pub changes: usize,
    /// What failed.
    pub failures: Vec<Failure>,
    /// What the document said that cannot be; it was left out.
    pub problems: Vec<Problem>,
}

/// Something that is not as the document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The VPC; none means the node as a whole, and no VPC was touched.
    pub vpc: Option<VpcId>,
    /// What went wrong, with its causes.
    pub why: String,
}

impl Applied {
    /// Whether all of it is so.
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }

    /// Whether a guest of this VPC may be started: the node's rules stand, and the VPC's network.
    pub fn serves(&self, vpc: &VpcId) -> bool {
        !self
            .failures
            .iter()
            .any(|f| f.vpc.as_ref().is_none_or(|failed| failed == vpc))
    }

    fn note(&mut self, vpc: Option<&VpcId>, outcome: Result<usize, Error>) {
        match outcome {
            Ok(changes) => self.changes += changes,
            Err(error) => {
                self.failures.push(Failure {
                    vpc: vpc.cloned(),
                    why: error.with_causes(),
                });
            }
        }
    }
}

/// Something that can make a node's network so.
#[async_trait]
pub trait Applier: Send + Sync {
    /// Makes it so, as far as it can, and says what it came to.
    async fn apply(&self, desired: &Desired) -> Applied;
}

/// The applier for Linux: it acts in the network namespace of the thread that calls it.
pub struct LinuxApplier {
    node: NodeNetwork,
    run: Arc<dyn Run>,
    /// How things are, if that is known; held by whoever applies.
    known: tokio::sync::Mutex<Option<Known>>,
}

/// What a complete application left.
struct Known {
    desired: Desired,
    /// The Ethernet addresses of uplinks, which the kernel chose.
    uplinks: BTreeMap<VpcId, MacAddr>,
    looked_at: Instant,
}

#[async_trait]
impl Applier for LinuxApplier {
    async fn apply(&self, desired: &Desired) -> Applied {
        let mut known = self.known.lock().await;
        let mut applied = Applied {
            version: desired.version,
            problems: desired.problems.clone(),
            ..Applied::default()
        };
        // Whatever breaks off from here on, nothing is known until all has been looked at.
        if let Some(before) = known.take()
            && let Some(changes) = self.amend(&before, desired).await
        {
            applied.changes = changes;
            *known = Some(Known {
                desired: desired.clone(),
                ..before
            });
            return applied;
        }
        let looked_at = Instant::now();
        let uplinks = self.whole(desired, &mut applied).await;
        *known = applied.is_complete().then(|| Known {
            desired: desired.clone(),
            uplinks,
            looked_at,
        });
        applied
    }
}

impl LinuxApplier {
    /// An applier for this node.
    pub fn new(node: NodeNetwork, run: Arc<dyn Run>) -> Self {
        Self {
            node,
            run,
            known: tokio::sync::Mutex::default(),
        }
    }

    /// Looks at everything. Gives the Ethernet addresses of uplinks.
    async fn whole(&self, desired: &Desired, applied: &mut Applied) -> BTreeMap<VpcId, MacAddr> {
        let mut uplinks = BTreeMap::new();
        match self.node(desired).await {
            Ok((node, changes)) => {
                applied.changes += changes;
                for vpc in &desired.vpcs {
                    let outcome = self.vpc(vpc, &node).await.map(|(changes, mac)| {
                        uplinks.extend(mac.map(|mac| (vpc.vpc.clone(), mac)));
                        changes
                    });
                    applied.note(Some(&vpc.vpc), outcome);
                }
            }
            Err(error) => applied.note(None, Err(error)),
        }
        uplinks
    }

    /// Takes the short way, if there is one. None: there is not, or it failed half-way; a look at
    /// everything says which, and why.
    async fn amend(&self, known: &Known, desired: &Desired) -> Option<usize> {
        let in_place = known.looked_at.elapsed() < BELIEVED
            && plan::all_links(desired).all(|name| if_nametoindex(name).is_ok())
            && desired
                .vpcs
                .iter()
                .all(|vpc| namespace::is_alive(&vpc.namespace));
        let amendments = in_place.then(|| amend::between(&known.desired, desired))??;
        let mut changes = 0;
        if let Some(rules) = &desired.rules
            && known.desired.rules != desired.rules
        {
            self.nft(None, ["-f", "-"], rules).await.ok()?;
            changes += 1;
        }
        for amendment in amendments {
            let mac = known.uplinks.get(&amendment.vpc.vpc);
            changes += self.amend_vpc(amendment, mac).await?;
        }
        Some(changes)
    }

    async fn amend_vpc(&self, amendment: Amendment<'_>, mac: Option<&MacAddr>) -> Option<usize> {
        let Amendment {
            vpc,
            rules,
            bridge,
            mut inside,
        } = amendment;
        let name = &vpc.namespace;
        if inside.announce {
            inside.lines.push(announcement(mac?));
        }
        let load = async {
            match rules {
                true => self
                    .nft(Some(name), ["-f", "-"], &vpc.rules)
                    .await
                    .map(|_| 1),
                false => Ok(0),
            }
        };
        let at = dhcp::paths(&self.node, name);
        let (loaded, bridged, entered, served) = tokio::try_join!(
            load,
            self.batch("bridge", None, &bridge),
            self.batch("ip", Some(name), &inside.lines),
            dnsmasq::ensure(&*self.run, name, &at, &vpc.dhcp),
        )
        .ok()?;
        Some(loaded + bridged + entered + served)
    }

    /// The node's rules, and the removal of what is no longer named.
    async fn node(&self, desired: &Desired) -> Result<(NodeState, usize), Error> {
        let mut changes = match &desired.rules {
            Some(rules) => {
                namespace::write_parameters(NODE_PARAMETERS).map_err(Error::Parameters)?
                    + self.rules(None, rules).await?
            }
            None => self.no_rules().await?,
        };
        let node = self.node_state().await?;
        let stale = plan::stale_links(desired, &node);
        changes += self.batch("ip", None, &stale).await?;
        for name in namespace::list(&self.node.namespace_prefix) {
            if !desired.vpcs.iter().any(|vpc| vpc.namespace == name) {
                changes += self.remove_namespace(&name).await?;
            }
        }
        let node = if stale.is_empty() {
            node
        } else {
            self.node_state().await?
        };
        Ok((node, changes))
    }

    async fn remove_namespace(&self, name: &str) -> Result<usize, Error> {
        dnsmasq::stop(&dhcp::paths(&self.node, name)).await?;
        self.tool(["ip", "netns", "del", name]).await?;
        Ok(1)
    }

    /// Gives the number of things done, and the uplink's Ethernet address.
    async fn vpc(
        &self,
        vpc: &VpcNetwork,
        node: &NodeState,
    ) -> Result<(usize, Option<MacAddr>), Error> {
        let name = &vpc.namespace;
        let mut changes = self.ensure_namespace(name).await?;
        changes += self.parameters(name, VPC_PARAMETERS).await?;
        let (loaded, state) =
            tokio::try_join!(self.rules(Some(name), &vpc.rules), self.vpc_state(name))?;
        changes += loaded;
        let links = plan::links(vpc, node, &state);
        let forwarding = if links.is_empty() {
            plan::forwarding(vpc, node)
        } else {
            changes += self.batch("ip", None, &links).await?;
            plan::forwarding(vpc, &self.node_state().await?)
        };
        changes += self.batch("bridge", None, &forwarding).await?;

        if vpc.uplink.is_some() {
            changes += self.parameters(name, UPLINK_PARAMETERS).await?;
        }
        let state = if links.is_empty() {
            state
        } else {
            self.vpc_state(name).await?
        };
        changes += self.inside(vpc, &state).await?;
        let at = dhcp::paths(&self.node, name);
        changes += dnsmasq::ensure(&*self.run, name, &at, &vpc.dhcp).await?;
        let mac = state.devices.get(UPLINK).and_then(|device| device.mac);
        Ok((changes, mac))
    }

    async fn ensure_namespace(&self, name: &str) -> Result<usize, Error> {
        if namespace::is_alive(name) {
            return Ok(0);
        }
        if namespace::path(name).exists() {
            self.tool(["ip", "netns", "del", name]).await?;
        }
        self.tool(["ip", "netns", "add", name]).await?;
        Ok(1)
    }

    async fn inside(&self, vpc: &VpcNetwork, state: &VpcState) -> Result<usize, Error> {
        let plan = plan::inside(vpc, state);
        let changes = self.batch("ip", Some(&vpc.namespace), &plan.lines).await?;
        let mac = state.devices.get(UPLINK).and_then(|device| device.mac);
        if let (true, Some(mac), Some(uplink)) = (plan.announce, mac, &vpc.uplink) {
            self.wait_until_forwarding(&uplink.port).await?;
            self.batch("ip", Some(&vpc.namespace), &[announcement(&mac)])
                .await?;
        }
        Ok(changes)
    }

    /// A bridge takes a new port into service some time after its link is up, and until then drops
    /// what comes. A port that never is in service is not worth a failure: the address is announced
    /// again with the next one, and answered for in any case.
    async fn wait_until_forwarding(&self, port: &str) -> Result<(), Error> {
        for _ in 0..FORWARDING_STEPS {
            let text = self
                .tool(["ip", "-j", "-d", "link", "show", "dev", port])
                .await?;
            let state = actual::node_state(&text, "").map_err(|source| answer("ip -j", source))?;
            if state.links.get(port).is_some_and(Link::is_forwarding) {
                break;
            }
            tokio::time::sleep(FORWARDING_STEP).await;
        }
        Ok(())
    }

    async fn parameters(
        &self,
        name: &str,
        parameters: &'static [(&'static str, &'static str)],
    ) -> Result<usize, Error> {
        namespace::set_parameters(name, parameters)
            .await
            .map_err(|source| Error::Namespace {
                name: name.to_owned(),
                source,
            })
    }

    async fn node_state(&self) -> Result<NodeState, Error> {
        let (links, forwarding) = tokio::try_join!(
            self.tool(["ip", "-j", "-d", "link", "show"]),
            self.tool(["bridge", "-j", "fdb", "show"]),
        )?;
        actual::node_state(&links, &forwarding).map_err(|source| answer("ip -j", source))
    }

    async fn vpc_state(&self, name: &str) -> Result<VpcState, Error> {
        let (addresses, routes, neighbours) = tokio::try_join!(
            self.tool(["ip", "-n", name, "-j", "addr", "show"]),
            self.tool(["ip", "-n", name, "-j", "route", "show"]),
            self.tool(["ip", "-n", name, "-j", "neigh", "show", "nud", "permanent"]),
        )?;
        actual::vpc_state(&addresses, &routes, &neighbours)
            .map_err(|source| answer("ip -j", source))
    }

    /// Loads a ruleset unless its seals say that it is loaded.
    async fn rules(&self, namespace: Option<&str>, text: &str) -> Result<usize, Error> {
        let loaded = self.chains(namespace).await?;
        let wanted = rules::seals(text);
        let is_loaded = |seal: &Seal| loaded.iter().any(|chain| chain.is(seal));
        if !wanted.is_empty() && wanted.iter().all(is_loaded) {
            return Ok(0);
        }
        self.nft(namespace, ["-f", "-"], text).await?;
        Ok(1)
    }

    async fn no_rules(&self) -> Result<usize, Error> {
        let ours: Vec<Chain> = self.chains(None).await?;
        let ours = ours
            .into_iter()
            .filter(|chain| [rules::TABLE, rules::count::TABLE].contains(&chain.table.as_str()));
        let tables: BTreeSet<(String, String)> = ours.map(|c| (c.family, c.table)).collect();
        let text: String = tables
            .iter()
            .map(|(family, table)| format!("delete table {family} {table}\n"))
            .collect();
        if !text.is_empty() {
            self.nft(None, ["-f", "-"], &text).await?;
        }
        Ok(tables.len())
    }

    async fn chains(&self, namespace: Option<&str>) -> Result<Vec<Chain>, Error> {
        let text = self.nft(namespace, ["-j", "list", "chains"], "").await?;
        let listing: Listing =
            serde_json::from_str(&text).map_err(|source| answer("nft -j list chains", source))?;
        Ok(listing
            .nftables
            .into_iter()
            .filter_map(|item| item.chain)
            .collect())
    }

    async fn nft<const N: usize>(
        &self,
        namespace: Option<&str>,
        arguments: [&str; N],
        text: &str,
    ) -> Result<String, Error> {
        let enter = namespace.map(|name| format!("--net={}", namespace::path(name).display()));
        let enter = enter
            .into_iter()
            .flat_map(|net| ["nsenter".to_owned(), net]);
        let words = enter.chain(["nft"].into_iter().chain(arguments).map(str::to_owned));
        tool(&*self.run, Command::new(words).reading(text)).await
    }

    /// Runs a batch of `ip` or `bridge`; it stops at the first line that fails.
    async fn batch(
        &self,
        program: &str,
        namespace: Option<&str>,
        lines: &[String],
    ) -> Result<usize, Error> {
        if lines.is_empty() {
            return Ok(0);
        }
        let inside = namespace.into_iter().flat_map(|name| ["-n", name]);
        let words = [program].into_iter().chain(inside).chain(["-batch", "-"]);
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        tool(&*self.run, Command::new(words).reading(text)).await?;
        Ok(lines.len())
    }

    async fn tool<const N: usize>(&self, words: [&str; N]) -> Result<String, Error> {
        tool(&*self.run, Command::new(words)).await
    }
}

/// With `arp_notify` on, the kernel tells all neighbours of a device's addresses when its Ethernet
/// address is set, be it to what it was: a gratuitous ARP without a raw socket.
fn announcement(mac: &MacAddr) -> String {
    format!("link set dev {UPLINK} address {mac}")
}

#[derive(Deserialize)]
struct Listing {
    nftables: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    chain: Option<Chain>,
}

#[derive(Deserialize)]
struct Chain {
    family: String,
    table: String,
    name: String,
}

impl Chain {
    fn is(&self, seal: &Seal) -> bool {
        self.table == seal.table && self.family == seal.family && self.name == seal.chain
    }
}
