//! Where a request comes from: of the front door's requests what it vouches for, of all others the
//! connection's own. Policies look at it as `aws:SourceIp` and `aws:SecureTransport`.

use daemon::public::Client;
use http::request::Parts;
use sigv4::vouch::{self, Origin, Vouched};
use types::{AccountId, Timestamp};

use crate::directory::Directory;

/// Where the request comes from. The front door's word is taken off it.
pub fn origin(parts: &mut Parts, client: Client, directory: &Directory, now: Timestamp) -> Origin {
    let connected = Origin {
        address: client.address.ip().to_canonical(),
        secure: client.secure,
    };
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
        tracing::warn!(connected = %connected.address, "a client's address was vouched for by nobody whom we believe");
        connected
    })
}
