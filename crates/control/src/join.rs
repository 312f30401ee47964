//! Becoming part of a cloud, and staying so: the token, the one call without a certificate, and
//! the renewal of the certificate that it brought.
//!
//! A token says where the CLC is, which authority to trust, and a secret that holds once. What the
//! newcomer is called is the CLC's answer. The CLC's address is kept beside the certificate.

use std::{fmt, net::SocketAddr, path::Path, str::FromStr, sync::Arc};

use daemon::{
    BoxError, Context,
    clock::SystemClock,
    files,
    tls::{self, Fingerprint, Identity, Joining, Role, Tls, join_config},
};
use types::Secret;

use crate::{
    CallError, Client, Cloud, Code,
    cloud::{JoinAsk, Joined, RenewAsk},
    rpc::Call,
};

/// Beside the certificate: where the CLC is.
const CLOUD_FILE: &str = "cloud";
/// Secrets are 16 to 128 characters: long enough not to be guessed, short enough for a shell.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 16..=128;

/// What `token` prints and `join --token` takes: `SECRET.FINGERPRINT.ADDRESS`.
#[derive(Debug, Clone)]
pub struct JoinToken {
    /// Holds once, for a while: letters and digits.
    pub secret: Secret<String>,
    /// The authority that the cloud's certificates are from.
    pub authority: Fingerprint,
    /// Where the CLC serves [`Cloud`].
    pub clc: SocketAddr,
}

/// Text that is no join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this is no join token; `mallee-clc token` prints one (SECRET.FINGERPRINT.ADDRESS)")]
pub struct MalformedToken;

impl JoinToken {
    /// The text to hand over. Whoever has it can join.
    pub fn to_text(&self) -> Secret<String> {
        let Self {
            secret,
            authority,
            clc,
        } = self;
        Secret::new(format!("{}.{authority}.{clc}", secret.reveal()))
    }
}

impl FromStr for JoinToken {
    type Err = MalformedToken;
    fn from_str(text: &str) -> Result<Self, MalformedToken> {
        let mut parts = text.trim().splitn(3, '.');
        let mut next = || parts.next().ok_or(MalformedToken);
        let (secret, authority, clc) = (next()?, next()?, next()?);
        let plain = secret.bytes().all(|b| b.is_ascii_alphanumeric());
        if !plain || !SECRET_BYTES.contains(&secret.len()) {
            return Err(MalformedToken);
        }
        Ok(Self {
            secret: Secret::new(secret.to_owned()),
            authority: authority.parse().map_err(|_| MalformedToken)?,
            clc: clc.parse().map_err(|_| MalformedToken)?,
        })
    }
}

/// What keeps a daemon from joining.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The folder holds a certificate already.
    #[error("{0} joined already; empty {1} to join again under a new name")]
    Already(String, String),
    /// The CLC refused, or does not answer.
    #[error("the Cloud Controller at {0}: {1}\n     fix: {fix}", fix = fix_of(.1.code))]
    Refused(SocketAddr, CallError),
    /// Files or certificates.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The CLC's address could not be kept or read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// The file that holds the CLC's address does not.
    #[error("{0} holds no address; join again")]
    NoAddress(String),
}

/// What to do where the CLC takes no newcomer.
pub(crate) const fn fix_of(code: Code) -> &'static str {
    match code {
        Code::Unreachable | Code::Deadline => {
            "see that mallee-clc runs there, that control.advertise in its clc.toml is an address \
             which this host reaches, and that this host's clock is right"
        }
        Code::Forbidden | Code::NotFound | Code::Conflict => {
            "a token holds once, for a day and for one role: `mallee-clc token --role ROLE` there \
             prints another"
        }
        Code::Invalid => {
            "see that both hosts have the same release of Mallee, and that the token was made for \
             this role and zone"
        }
        Code::NotReady | Code::NoRoom | Code::Internal => {
            "`journalctl -u mallee-clc` on its host says more; mend that, and join again"
        }
    }
}

/// What came of a join.
pub struct Welcome {
    /// Who we are now.
    pub identity: Identity,
    /// How far the CLC's clock is ahead of ours, if it has said.
    pub clc_ahead_ms: Option<i64>,
}

/// Who wants to join, and where it serves.
#[derive(Debug, Clone)]
pub struct Newcomer {
    /// What it is.
    pub role: Role,
    /// Where it serves; none for the administrator.
    pub address: Option<SocketAddr>,
    /// The host's name, for people.
    pub hostname: String,
}

/// Joins: makes a key in `tls_dir`, has it certified, and keeps what came back. May be cut off
/// anywhere before the end and run again with a new token.
pub async fn join(
    tls_dir: impl AsRef<Path>,
    token: &JoinToken,
    newcomer: Newcomer,
) -> Result<Welcome, JoinError> {
    let dir = tls_dir.as_ref();
    if Identity::exists(dir) {
        let who = Identity::load(dir).map_or_else(|error| error.to_string(), |i| i.peer.uri());
        return Err(JoinError::Already(who, dir.display().to_string()));
    }
    let joining = Joining::begin(dir)?;
    let config = join_config(token.authority)?;
    let clock = SystemClock::shared();
    let asked_ms = clock.now_ms();
    let joined = ask(&config, token, newcomer, joining.request_pem()?).await?;
    // It looked at its clock somewhere between: the middle is wrong by half of that at most.
    let ours_ms = asked_ms + (clock.now_ms() - asked_ms) / 2;
    files::publish(dir.join(CLOUD_FILE), token.clc.to_string().as_bytes())?;
    Ok(Welcome {
        identity: joining.finish(&joined.ca_pem, &joined.certificate_pem)?,
        clc_ahead_ms: joined.now_ms.map(|theirs_ms| theirs_ms - ours_ms),
    })
}

async fn ask(
    config: &Arc<rustls::ClientConfig>,
    token: &JoinToken,
    newcomer: Newcomer,
    csr_pem: String,
) -> Result<Joined, JoinError> {
    let clc = Client::new(config, token.clc, Role::Clc, None);
    let ask = JoinAsk {
        secret: token.secret.clone(),
        role: newcomer.role,
        csr_pem,
        address: newcomer.address,
        hostname: newcomer.hostname,
    };
    clc.join(&Call::new("join"), ask)
        .await
        .map_err(|error| JoinError::Refused(token.clc, error))
}

/// The host's name as the kernel has it, for people; nothing depends on it.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The address at which the cloud reaches a listener: itself, or for a wildcard the one that this
/// host uses towards the CLC. Asks the kernel's routes; sends nothing.
pub fn reachable(listen: SocketAddr, clc: SocketAddr) -> SocketAddr {
    if !listen.ip().is_unspecified() {
        return listen;
    }
    let towards = || {
        let socket = std::net::UdpSocket::bind((listen.ip(), 0))?;
        socket.connect(clc)?;
        socket.local_addr()
    };
    towards().map_or(listen, |own| SocketAddr::new(own.ip(), listen.port()))
}

/// Where the CLC is, as it was when this daemon joined.
pub fn clc_address(tls_dir: impl AsRef<Path>) -> Result<SocketAddr, JoinError> {
    let path = tls_dir.as_ref().join(CLOUD_FILE);
    let text = files::read_text(&path)?;
    text.trim()
        .parse()
        .map_err(|_| JoinError::NoAddress(path.display().to_string()))
}

/// Keeps the daemon's certificate fresh for as long as it runs; says where it serves with each
/// renewal.
pub fn keep_certificate(context: &Context, tls: &Tls, clc: Client, address: Option<SocketAddr>) {
    let (tls, clock, cancel) = (tls.clone(), context.clock.clone(), context.cancel.clone());
    context.spawn("renew_certificate", async move {
        let ask = move |csr_pem| -> tls::Asking {
            let (clc, ask) = (clc.clone(), RenewAsk { csr_pem, address });
            Box::pin(async move { Ok(clc.renew(&Call::new("renew"), ask).await?.certificate_pem) })
        };
        tls::renew(tls, clock, cancel, ask).await;
        Ok::<(), BoxError>(())
    });
}

impl fmt::Display for Newcomer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.role, self.hostname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_reached_at_the_address_towards_the_cloud() {
        let clc = "127.0.0.1:8777".parse().unwrap();
        let wildcard = reachable("0.0.0.0:8775".parse().unwrap(), clc);
        assert_eq!(wildcard, "127.0.0.1:8775".parse().unwrap());
        let own = "10.9.8.7:8775".parse().unwrap();
        assert_eq!(reachable(own, clc), own);
    }

    #[test]
    fn a_token_reads_back_and_anything_else_is_refused() {
        let text = format!("0123456789abcdef.{}.10.0.0.1:8777", "ab".repeat(32));
        let token: JoinToken = text.parse().unwrap();
        assert_eq!(*token.to_text().reveal(), text);
        assert!(!format!("{token:?}").contains("0123456789abcdef"));
        for wrong in [
            "",
            "a.b.c",
            &text[1..],
            &text.replace("8777", ""),
            &text.replace("ab.", "."),
        ] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
    }
}
