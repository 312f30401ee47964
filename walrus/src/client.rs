//! Where a request comes from: of the front door's requests what it vouches for, of all others the
//! connection's own. Policies look at it as `aws:SourceIp` and `aws:SecureTransport`.

use daemon::public::{Agreed, Client};
use http::{HeaderValue, request::Parts};
use sigv4::vouch::{self, Origin, Vouched};
use types::{AccountId, Timestamp};

use crate::directory::Directory;

/// Where the request comes from, and what its handshake agreed on. The front door's word is taken off
/// it.
pub fn origin(
    parts: &mut Parts,
    client: Client,
    directory: &Directory,
    now: Timestamp,
) -> (Origin, Option<Agreed>) {
    let word = parts.headers.remove(vouch::HEADER);
    let agreed = parts.headers.remove(vouch::TLS_HEADER);
    match word.and_then(|word| believed(&word, parts, directory, now)) {
        Some(origin) => {
            let read = |value: HeaderValue| Agreed::parse(value.to_str().ok()?);
            (origin, agreed.and_then(read))
        }
        None => {
            let connected = Origin {
                address: client.address.ip().to_canonical(),
                secure: client.secure,
            };
            (connected, client.tls)
        }
    }
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
