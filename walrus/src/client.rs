//! Where a request comes from: of the front door's requests what it vouches for, of all others the
//! connection's own. Policies look at it as `aws:SourceIp` and `aws:SecureTransport`.

use daemon::public::Client;
use http::{HeaderValue, request::Parts};
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
    believed(&value, parts, directory, now).unwrap_or(connected)
}

/// What the front door vouches for. What anybody else writes there is nothing to us; a word by the
/// cloud's own key that does not hold is for an administrator to know.
fn believed(
    value: &HeaderValue,
    parts: &Parts,
    directory: &Directory,
    now: Timestamp,
) -> Option<Origin> {
    let word = Vouched::read(value)?;
    let (secret, caller) = directory.find_key(word.access_key)?;
    if caller.account() != Some(&AccountId::system()) {
        return None;
    }
    let origin = word.verify(parts, secret.reveal(), now.as_millis());
    if origin.is_none() {
        tracing::warn!(
            "the front door's word of where a request comes from does not hold: do the clocks differ?"
        );
    }
    origin
}
