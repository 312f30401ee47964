//! Becoming part of the cloud: tokens, joining, renewing.
//!
//! A token holds once and for one role and zone; only the hash of its secret is kept. The same key
//! may join again with it (an answer was lost), and gets the same name: a node's name is made of
//! its key.

use std::{net::SocketAddr, sync::Arc};

use control::{
    CallError, Code, Role,
    cloud::{JoinAsk, Joined, RenewAsk, Token, TokenAsk},
    join::JoinToken,
};
use daemon::tls::{Authority, Fingerprint, Issue, Peer, request_key};
use rand::RngExt;
use sha2::{Digest, Sha256};
use store::{Error, Tx};
use types::{NodeId, Secret, Timestamp, Zone};

use super::{Refused, internal};
use crate::{
    Clc, default_vpc,
    rows::{
        cloud, nodes,
        nodes::NodeRow,
        services::{self, ServiceRow, TokenRow},
    },
};

/// Characters of a token's secret: 190 bits of letters and digits.
const SECRET_CHARS: usize = 32;
/// A token is for somebody who is about to use it: a week at most.
const VALID_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Makes a token, for the administrator's command.
pub(super) async fn token(
    clc: &Arc<Clc>,
    authority: &Authority,
    ask: TokenAsk,
) -> Result<Token, CallError> {
    let made = Made {
        authority: authority.fingerprint(),
        clc: clc.config.advertised(),
        now: clc.now(),
    };
    let token = clc
        .db
        .write(move |tx| make_token(tx, &made, &ask).map_err(Refused))
        .await?;
    Ok(Token { token })
}

/// What goes into a token besides what was asked.
#[derive(Debug, Clone)]
pub struct Made {
    /// The authority that the newcomer shall trust.
    pub authority: Fingerprint,
    /// Where we serve.
    pub clc: Option<SocketAddr>,
    /// Now.
    pub now: Timestamp,
}

/// Makes a token and writes it down. A zone that a CC is invited to comes into being.
pub fn make_token(tx: &Tx, made: &Made, ask: &TokenAsk) -> Result<Secret<String>, CallError> {
    let clc = made.clc.ok_or_else(|| {
        invalid("control.advertise is not set: where would the newcomer reach us?")
    })?;
    check_role(tx, ask, made.now)?;
    let secret: String = {
        let rng = &mut rand::rng();
        (0..SECRET_CHARS)
            .map(|_| char::from(rng.sample(rand::distr::Alphanumeric)))
            .collect()
    };
    let valid_ms = i64::try_from(ask.valid_ms.min(VALID_MS_MAX)).unwrap_or(0);
    let row = TokenRow {
        role: ask.role,
        zone: ask.zone.clone(),
        expires_at: made.now.plus_millis(valid_ms),
        used_by: None,
    };
    services::insert_token(tx, &hash(&secret), &row).map_err(internal)?;
    Ok(JoinToken {
        secret: Secret::new(secret),
        authority: made.authority,
        clc,
    }
    .to_text())
}

fn check_role(tx: &Tx, ask: &TokenAsk, now: Timestamp) -> Result<(), CallError> {
    match (ask.role, &ask.zone) {
        (Role::Clc, _) => Err(invalid(
            "there is one Cloud Controller; it is made by `init`",
        )),
        (Role::Walrus | Role::Admin, None) => Ok(()),
        (Role::Walrus | Role::Admin, Some(_)) => {
            Err(invalid(&format!("a {} belongs to no zone", ask.role)))
        }
        (Role::Cc | Role::Nc | Role::Sc, None) => Err(invalid(&format!(
            "a {} belongs to a zone: which?",
            ask.role
        ))),
        (Role::Cc, Some(zone)) => add_zone(tx, zone, now).map_err(internal),
        (Role::Nc | Role::Sc, Some(zone)) => match cloud::is_zone(tx, zone).map_err(internal)? {
            true => Ok(()),
            false => Err(CallError::not_found(format!("zone {zone}"))),
        },
    }
}

fn add_zone(tx: &Tx, zone: &Zone, now: Timestamp) -> Result<(), Error> {
    cloud::insert_zone(tx, zone, now)?;
    default_vpc::extend(tx, zone, &mut rand::rng(), now)
}

/// Takes a newcomer in.
pub(super) async fn join(
    clc: &Arc<Clc>,
    authority: &Authority,
    ask: JoinAsk,
) -> Result<Joined, CallError> {
    let key = request_key(&ask.csr_pem).map_err(|error| invalid(&error.to_string()))?;
    let csr_pem = ask.csr_pem.clone();
    let now = clc.now();
    let peer = clc
        .db
        .write(move |tx| admit(tx, &ask, &key, now).map_err(Refused))
        .await?;
    tracing::info!(%peer, "joined");
    look_around(clc).await?;
    certify(authority, &peer, &csr_pem, now)
}

/// Uses the token up and writes the newcomer down, in one transaction.
fn admit(tx: &Tx, ask: &JoinAsk, key: &str, now: Timestamp) -> Result<Peer, CallError> {
    let secret = hash(ask.secret.reveal());
    let token = services::find_token(tx, &secret)
        .map_err(internal)?
        .ok_or_else(|| forbidden("the token is not known; it holds once and for a day"))?;
    check_token(&token, ask.role, key, now)?;
    let peer = name(ask.role, token.zone.as_ref(), key)?;
    services::use_token(tx, &secret, key).map_err(internal)?;
    enter(tx, &peer, ask, now)?;
    Ok(peer)
}

fn check_token(token: &TokenRow, role: Role, key: &str, now: Timestamp) -> Result<(), CallError> {
    // First of all: whoever holds a used token still gets nothing but what it was made for.
    if token.role != role {
        let text = format!("the token is for a {}, not for a {role}", token.role);
        return Err(forbidden(&text));
    }
    match &token.used_by {
        Some(user) if user == key => Ok(()),
        Some(_) => Err(forbidden("the token has been used; ask for another")),
        None if token.expires_at < now => Err(forbidden("the token has expired; ask for another")),
        None => Ok(()),
    }
}

fn name(role: Role, zone: Option<&Zone>, key: &str) -> Result<Peer, CallError> {
    let zone_name = zone.map(Zone::as_str);
    let name = match role {
        Role::Nc => format!("node-0{}", &key[..16]),
        Role::Cc | Role::Sc => zone_name.unwrap_or_default().to_owned(),
        Role::Clc => return Err(forbidden("there is one Cloud Controller, made by `init`")),
        Role::Walrus => role.as_str().to_owned(),
        Role::Admin => format!("admin-{}", &key[..8]),
    };
    Peer::new(role, &name, zone_name).map_err(|error| invalid(&error.to_string()))
}

fn enter(tx: &Tx, peer: &Peer, ask: &JoinAsk, now: Timestamp) -> Result<(), CallError> {
    let address = || {
        ask.address
            .ok_or_else(|| invalid("a daemon must say where it serves"))
    };
    let hostname = ask.hostname.chars().take(255).collect();
    match peer.role {
        Role::Admin | Role::Clc => Ok(()),
        Role::Nc => enter_node(tx, peer, address()?, hostname, now),
        Role::Cc | Role::Sc | Role::Walrus => {
            let service = ServiceRow {
                role: peer.role,
                name: peer.name.clone(),
                zone: zone_of(peer)?,
                address: address()?,
                hostname,
            };
            services::put(tx, &service, now).map_err(internal)
        }
    }
}

fn enter_node(
    tx: &Tx,
    peer: &Peer,
    address: SocketAddr,
    hostname: String,
    now: Timestamp,
) -> Result<(), CallError> {
    let zone = zone_of(peer)?.ok_or_else(|| invalid("a node belongs to a zone"))?;
    let id = node_id(peer)?;
    if nodes::find(tx, &id).map_err(internal)?.is_some() {
        return nodes::move_to(tx, &id, &zone, address)
            .map(drop)
            .map_err(internal);
    }
    let node = NodeRow {
        id,
        zone,
        address,
        hostname,
        underlay: None,
        dead: false,
    };
    nodes::insert(tx, &node, now).map_err(internal)
}

/// Gives the next certificate to one that has one; notes where it serves now.
pub(super) async fn renew(
    clc: &Arc<Clc>,
    authority: &Authority,
    peer: &Peer,
    ask: RenewAsk,
) -> Result<Joined, CallError> {
    let (of, address, now) = (peer.clone(), ask.address, clc.now());
    let moved = clc
        .db
        .write(move |tx| still_here(tx, &of, address).map_err(Refused))
        .await?;
    if moved {
        tracing::info!(%peer, ?address, "moved");
        look_around(clc).await?;
    }
    certify(authority, peer, &ask.csr_pem, now)
}

/// Whether a peer has moved. One that is no longer on our lists gets nothing.
fn still_here(tx: &Tx, peer: &Peer, address: Option<SocketAddr>) -> Result<bool, CallError> {
    let gone = || forbidden(&format!("{peer} is not part of this cloud any more"));
    match peer.role {
        Role::Admin | Role::Clc => Ok(false),
        Role::Nc => {
            let node = nodes::find(tx, &node_id(peer)?)
                .map_err(internal)?
                .ok_or_else(gone)?;
            let Some(address) = address else {
                return Ok(false);
            };
            nodes::move_to(tx, &node.id, &node.zone, address).map_err(internal)
        }
        Role::Cc | Role::Sc | Role::Walrus => {
            let known = services::list(tx).map_err(internal)?;
            let mine = |row: &ServiceRow| row.role == peer.role && row.name == peer.name;
            known.iter().find(|row| mine(row)).ok_or_else(gone)?;
            let Some(address) = address else {
                return Ok(false);
            };
            services::move_to(tx, peer.role, &peer.name, address).map_err(internal)
        }
    }
}

/// Takes up who is where now, and tells those who must know.
async fn look_around(clc: &Arc<Clc>) -> Result<(), CallError> {
    let services = clc.db.read(services::list).await.map_err(internal)?;
    clc.peers.set(&services);
    clc.wakes.followers.wake();
    clc.wakes.roster.wake();
    clc.wakes.network.wake();
    Ok(())
}

fn certify(
    authority: &Authority,
    peer: &Peer,
    csr_pem: &str,
    now: Timestamp,
) -> Result<Joined, CallError> {
    let certificate_pem = authority
        .sign(csr_pem, &Issue::daemon(peer.clone(), now.0))
        .map_err(|error| invalid(&error.to_string()))?;
    Ok(Joined {
        name: peer.name.clone(),
        zone: zone_of(peer)?,
        certificate_pem,
        ca_pem: authority.certificate_pem().to_owned(),
        now_ms: Some(now.0),
    })
}

fn zone_of(peer: &Peer) -> Result<Option<Zone>, CallError> {
    let parse = |zone: &String| {
        zone.parse()
            .map_err(|_| invalid("the certificate's zone is none"))
    };
    peer.zone.as_ref().map(parse).transpose()
}

/// The node that a certificate names.
pub(super) fn node_id(peer: &Peer) -> Result<NodeId, CallError> {
    peer.name
        .parse()
        .map_err(|_| invalid("the certificate's name is no node id"))
}

fn hash(secret: &str) -> String {
    hex::encode(Sha256::digest(secret.as_bytes()))
}

fn invalid(message: &str) -> CallError {
    CallError::new(Code::Invalid, message)
}

fn forbidden(message: &str) -> CallError {
    CallError::new(Code::Forbidden, message)
}
