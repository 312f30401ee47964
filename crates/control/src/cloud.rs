//! What the Cloud Controller answers to the other daemons and to the administrator.

use std::{collections::BTreeSet, net::SocketAddr};

use serde::{Deserialize, Serialize};
use types::{
    AccessKeyId, AccountId, BundleId, ImageId, InstanceId, InstanceState, NodeId, Secret,
    StateReason, Timestamp, Zone,
};

use crate::{
    caches::{Blocks, Caches, CachesAsk, CopyPeer, CopyReport, EvictAsk, FilledBy, WarmAsk},
    cluster::NodeStatus,
    error::CallError,
    feed::{Changes, Poll},
    node::{ConsoleRead, ConsoleText, ConsoleWrite, Done, ImageRef},
    objects::{AskQuotas, ObjectsStatus, Quotas, SetQuota},
    peer::Role,
    rpc::rpc,
    storage::PoolReport,
    timeline::Moment,
};

/// Asks to become part of the cloud. The one call that needs no certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinAsk {
    /// The secret of a one-time token.
    pub secret: Secret<String>,
    /// What the caller is; must be what the token was made for.
    pub role: Role,
    /// A certificate request in PEM; only its public key is taken.
    pub csr_pem: String,
    /// Where the caller will serve; none for those that serve nothing (the administrator).
    pub address: Option<SocketAddr>,
    /// The host's name, for people.
    pub hostname: String,
}

/// A certificate, and who its holder now is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// The name in the certificate: a node id, a zone, `walrus`.
    pub name: String,
    /// The cluster, for those that have one.
    pub zone: Option<Zone>,
    /// The certificate, in PEM.
    pub certificate_pem: String,
    /// The cloud's CA, in PEM.
    pub ca_pem: String,
    /// The CLC's time, UTC milliseconds: a host may see by it that its own clock is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now_ms: Option<i64>,
}

/// Asks for the next certificate in place of the one that the call is made with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewAsk {
    /// A certificate request in PEM; only its public key is taken.
    pub csr_pem: String,
    /// Where the caller serves now, if that has changed.
    #[serde(default)]
    pub address: Option<SocketAddr>,
}

/// Asks for a certificate to show to clients, in place of one that the administrator would keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicCertificateAsk {
    /// A certificate request in PEM; only its public key is taken.
    pub csr_pem: String,
    /// The host names and addresses that clients know the caller by. `Invalid` for names under which
    /// daemons know one another.
    pub names: BTreeSet<String>,
}

/// A certificate for clients. It is good for nothing between daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicCertificate {
    /// In PEM.
    pub certificate_pem: String,
}

/// One thing that changed about who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdentityChange {
    /// An account.
    Account(Account),
    /// A user, with its policies.
    User(User),
    /// An access key.
    Key(AccessKey),
}

/// An account as Walrus needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its number.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The canonical id that S3 shows as owner: 64 hex digits.
    pub canonical_id: String,
    /// Whether it is gone.
    #[serde(default)]
    pub deleted: bool,
}

/// A user as Walrus needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its account.
    pub account: AccountId,
    /// Its name; `admin` is the account's own, who may do everything in it.
    pub name: String,
    /// Its path, `/` at least.
    pub path: String,
    /// Its policies and its groups', as JSON text.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Whether it is gone.
    #[serde(default)]
    pub deleted: bool,
}

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its id.
    pub id: AccessKeyId,
    /// Its account.
    pub account: AccountId,
    /// Its user.
    pub user: String,
    /// The secret half.
    pub secret: Secret<String>,
    /// Whether it may be used.
    pub active: bool,
    /// Whether it is gone.
    #[serde(default)]
    pub deleted: bool,
}

/// Asks for what a node needs to fetch an image. `Forbidden` unless an instance that is placed on
/// the calling node needs it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketAsk {
    /// Which image.
    pub image: ImageRef,
    /// The cache entry that is to be made of it; without it there is nothing but the bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// Whether the peers that were told could not give it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub peers_failed: bool,
}

/// What a node needs to fetch an image. Never on disk, never in a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Which image.
    pub image: ImageId,
    /// The parts in order.
    pub parts: Vec<TicketPart>,
    /// The AES-128 key, 32 hex digits.
    pub key: Secret<String>,
    /// The initialisation vector, 32 hex digits.
    pub iv: Secret<String>,
    /// SHA-1 of the tar stream, in hex, from the manifest.
    pub digest_sha1: String,
    /// The size of the plain image in bytes.
    pub size_bytes: u64,
    /// The sum of the parts' sizes.
    pub bundled_bytes: u64,
    /// How long the addresses hold; ask again before.
    pub valid_ms: u64,
    /// What the entry must come to, if a node has made it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
    /// Nodes of the caller's cluster to take it from, the best first. Then `parts` is empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<CopyPeer>,
    /// The node that reads the bundle already: wait, and ask again. Then `parts` is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filled_by: Option<FilledBy>,
}

/// A part of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketPart {
    /// Its file name, for messages.
    pub name: String,
    /// A presigned address.
    pub url: Secret<String>,
    /// SHA-1 in hex, from the manifest.
    pub digest_sha1: String,
    /// Its size in bytes, as Walrus has it.
    pub size_bytes: u64,
}

/// Asks for what a node needs to store a bundle of an instance. `Forbidden` unless the instance is
/// placed on the calling node and that task is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleTicketAsk {
    /// Of which instance.
    pub instance: InstanceId,
    /// Which task.
    pub task: BundleId,
    /// The first part that an address is needed for.
    pub first_part: u32,
}

/// What a node needs to store a bundle. Never on disk, never in a log. All but the addresses is the
/// same each time, so that a task that is begun again makes the same parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleTicket {
    /// The AES-128 key, 32 hex digits.
    pub key: Secret<String>,
    /// The initialisation vector, 32 hex digits.
    pub iv: Secret<String>,
    /// What the manifest is to say.
    pub label: BundleLabel,
    /// Where parts go, from the one that was asked for on. There are more: ask again.
    pub parts: Vec<BundlePlace>,
    /// Where the manifest goes, last.
    pub manifest: BundlePlace,
    /// The canned ACL that each is to be stored with, in the header `x-amz-acl`; it is signed.
    pub acl: String,
    /// How long the addresses hold.
    pub valid_ms: u64,
}

/// Where an object of a bundle goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundlePlace {
    /// A presigned address to put it at.
    pub put: Secret<String>,
    /// A presigned address to ask, by HEAD, whether it is there.
    pub head: Secret<String>,
}

/// What a bundle's manifest says besides its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleLabel {
    /// The bundle's name, the prefix of its files.
    pub name: String,
    /// `x86_64`.
    pub architecture: String,
    /// The account that it is for.
    pub account: AccountId,
    /// The kernel that the instance boots with, if not its own.
    #[serde(default)]
    pub kernel: Option<ImageId>,
    /// The ramdisk beside it.
    #[serde(default)]
    pub ramdisk: Option<ImageId>,
    /// Key and IV wrapped for the cloud, in hex.
    pub cloud_key: [String; 2],
    /// Key and IV wrapped for the user, in hex; empty without a certificate.
    pub user_key: [String; 2],
}

/// Asks for something that has no parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {}

/// The cloud at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudStatus {
    /// The region.
    pub region: String,
    /// The CLC's version.
    pub version: String,
    /// Every daemon that has joined, the CLC included.
    pub services: Vec<ServiceStatus>,
    /// Every node.
    pub nodes: Vec<NodeStatus>,
    /// The object store, if it answers.
    pub objects: Option<ObjectsStatus>,
    /// The pools, by zone.
    pub pools: Vec<(Zone, PoolReport)>,
    /// How many instances there are in each state.
    pub instances: Vec<(InstanceState, u64)>,
    /// Public addresses: taken, and in all.
    pub addresses: (u64, u64),
}

/// A daemon as the CLC sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// What it is.
    pub role: Role,
    /// Its name.
    pub name: String,
    /// Its cluster.
    pub zone: Option<Zone>,
    /// Where it serves.
    pub address: Option<SocketAddr>,
    /// `up`, or why not.
    pub state: String,
    /// When it last answered.
    pub seen_at: Option<Timestamp>,
}

/// An instance as the administrator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which instance.
    pub instance: InstanceId,
    /// Whose it is.
    pub account: AccountId,
    /// Its state.
    pub state: InstanceState,
    /// Why.
    pub reason: Option<StateReason>,
    /// Its type.
    pub vm_type: String,
    /// Its image.
    pub image: ImageId,
    /// Where it is placed.
    pub node: Option<NodeId>,
    /// Its zone.
    pub zone: Zone,
    /// Its private address.
    pub private_address: String,
    /// Its public address, or nothing.
    pub public_address: String,
    /// When it was launched.
    pub launched_at: Timestamp,
}

/// All instances.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceList {
    /// In the order of their launch.
    pub instances: Vec<InstanceStatus>,
}

/// Asks why an instance is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExplainAsk {
    /// Which instance.
    pub instance: InstanceId,
}

/// Why an instance is what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The instance.
    pub status: InstanceStatus,
    /// What happened, by each daemon's own clock.
    pub timeline: Vec<Moment>,
    /// Why the nodes that were not chosen were not.
    pub rejected: Vec<crate::cluster::Rejected>,
    /// Who has to act next and until when, if it is on its way.
    pub waits_for: Option<String>,
}

/// The outcome of checking the invariants on the running cloud.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// One line for each invariant.
    pub checks: Vec<Check>,
}

/// One invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name: `I1` to `I8`.
    pub name: String,
    /// What it says.
    pub says: String,
    /// How many things were looked at.
    pub looked_at: u64,
    /// What breaks it; none if it holds.
    pub broken: Vec<String>,
}

/// Asks for a one-time token to join with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenAsk {
    /// For what.
    pub role: Role,
    /// For which cluster; must be given for CC, NC and SC.
    pub zone: Option<Zone>,
    /// How long it holds.
    pub valid_ms: u64,
}

/// A one-time token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Token {
    /// What to give to `join --token`.
    pub token: Secret<String>,
}

/// Asks for a new account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountAsk {
    /// Its name: 1 to 63 lower-case letters, digits and inner dashes; `Conflict` if it is taken.
    pub name: String,
}

/// A new account, with what its user `admin` needs. The secret is shown this once.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NewAccount {
    /// Its number.
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// The access key of `admin`.
    pub access_key_id: AccessKeyId,
    /// The secret half.
    pub secret_access_key: Secret<String>,
}

/// All accounts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountList {
    /// In the order of their names; deleted ones are not among them.
    pub accounts: Vec<Account>,
}

/// Declares a node dead: its CC waits for it no longer before it places again. Its instances keep
/// their records until somebody terminates them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadAsk {
    /// Which node.
    pub node: NodeId,
    /// Dead, or after all not.
    pub dead: bool,
}

rpc! {
    /// The Cloud Controller, to the daemons and the administrator.
    trait Cloud serves Role::Clc {
        /// Becomes part of the cloud with a one-time token; needs no certificate.
        join(JoinAsk) -> Joined, by anyone;
        /// Gets the next certificate.
        renew(RenewAsk) -> Joined, by [Role::Cc, Role::Nc, Role::Sc, Role::Walrus, Role::Admin];
        /// Signs a certificate to show to clients.
        public_certificate(PublicCertificateAsk) -> PublicCertificate, by [Role::Walrus];
        /// Who may do what, and changes of it.
        identity(Poll) -> Changes<IdentityChange>, by [Role::Walrus];
        /// What a node needs to fetch an image.
        image_ticket(TicketAsk) -> Ticket, by [Role::Nc];
        /// What a node needs to store a bundle.
        bundle_ticket(BundleTicketAsk) -> BundleTicket, by [Role::Nc];
        /// How far a node's copy of an image is: others wait for it, or take it from there.
        image_copy(CopyReport) -> Done, by [Role::Nc];
        /// Makes a join token.
        token(TokenAsk) -> Token, by [Role::Admin];
        /// The cloud at a glance.
        status(Ask) -> CloudStatus, by [Role::Admin];
        /// All instances.
        instances(Ask) -> InstanceList, by [Role::Admin];
        /// Why an instance is what it is.
        explain(ExplainAsk) -> Explanation, by [Role::Admin];
        /// Makes an account with a default VPC and an access key.
        create_account(AccountAsk) -> NewAccount, by [Role::Admin];
        /// All accounts.
        accounts(Ask) -> AccountList, by [Role::Admin];
        /// How much accounts and buckets may hold in the object store, and do.
        quotas(AskQuotas) -> Quotas, by [Role::Admin];
        /// Says how much one may hold.
        set_quota(SetQuota) -> Done, by [Role::Admin];
        /// Declares a node dead, or not.
        declare_dead(DeadAsk) -> Done, by [Role::Admin];
        /// Checks the invariants.
        verify(Ask) -> Verdict, by [Role::Admin];
        /// Reads a console.
        console_read(ConsoleRead) -> ConsoleText, by [Role::Admin];
        /// Types into a console.
        console_write(ConsoleWrite) -> Done, by [Role::Admin];
        /// What the nodes' image caches have.
        caches(CachesAsk) -> Caches, by [Role::Admin];
        /// Has nodes fetch an image before anybody launches it.
        caches_warm(WarmAsk) -> Caches, by [Role::Admin];
        /// Has nodes remove an image that nothing uses.
        caches_evict(EvictAsk) -> Caches, by [Role::Admin];
    }
}
