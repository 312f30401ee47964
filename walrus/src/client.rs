//! Whose address a request came from: of the front door's requests what it vouches for, of all
//! others the connection's own. Policies look at it as `aws:SourceIp`.

use std::net::IpAddr;

use http::request::Parts;
use sigv4::vouch::{self, Vouched};
use types::{AccountId, Timestamp};

use crate::directory::Directory;

/// The address of the client. The front door's word is taken off the request.
pub fn address(
    parts: &mut Parts,
    connected: IpAddr,
    directory: &Directory,
    now: Timestamp,
) -> IpAddr {
    let connected = connected.to_canonical();
    let Some(value) = parts.headers.remove(vouch::HEADER) else {
        return connected;
    };
    let vouched = Vouched::read(&value).and_then(|word| {
        let (secret, caller) = directory.find_key(word.access_key)?;
        let is_cloud = caller.account() == Some(&AccountId::system());
        let verified = word.verify(parts, secret.reveal(), now.as_millis())?;
        is_cloud.then_some(verified)
    });
    vouched.unwrap_or_else(|| {
        tracing::warn!(%connected, "a client's address was vouched for by nobody whom we believe");
        connected
    })
}
