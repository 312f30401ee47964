//! A host that becomes a daemon of a cloud: looked at, joined, looked at again. What every
//! `mallee-… join` does, for people at a terminal.

use std::{net::SocketAddr, path::PathBuf};

use daemon::{
    clock::SystemClock,
    examine::{self, Finding, NodeWanted, Verdict, Wanted},
    tls::Role,
};

use crate::{
    CallError, Cloud, Code, Member,
    cloud::Ask,
    join::{self, JoinError, JoinToken, MalformedToken, Newcomer},
    member,
    rpc::Call,
};

/// What keeps a host from becoming part of a cloud.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no token.
    #[error(transparent)]
    Token(#[from] MalformedToken),
    /// Something would not work; it was said what and what to do.
    #[error("this host is not fit for a {0} yet; nothing was changed")]
    Unfit(Role),
    /// The CLC refused, or the files could not be written.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// What was written cannot be read back.
    #[error("joined, but the certificate cannot be used")]
    Member(#[from] member::Error),
    /// The CLC does not know its own certificate.
    #[error("joined, but the Cloud Controller does not answer to the new certificate")]
    Stranger(#[source] CallError),
}

/// Who joins, and what it needs of the host.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it is.
    pub role: Role,
    /// Where durable state is.
    pub state: PathBuf,
    /// Where it will serve the cloud.
    pub serves: SocketAddr,
    /// Where else it will listen.
    pub listens: Vec<SocketAddr>,
    /// What a node needs besides.
    pub node: Option<NodeWanted>,
}

impl Plan {
    fn wanted(&self, clc: SocketAddr) -> Wanted {
        Wanted {
            state: self.state.clone(),
            listens: [&[self.serves], self.listens.as_slice()].concat(),
            clc: Some(clc),
            node: self.node.clone(),
        }
    }
}

/// Looks at the host, joins, and proves that the certificate is taken. Prints what is not good, with
/// cause and fix, on standard error and what comes next on standard output.
pub async fn become_member(plan: &Plan, token: &str) -> Result<(), Error> {
    let token: JoinToken = token.parse()?;
    let findings = examine::host(&plan.wanted(token.clc), SystemClock::shared().now_ms()).await;
    say(&findings);
    if examine::worst(&findings) == Verdict::Bad {
        return Err(Error::Unfit(plan.role));
    }
    let newcomer = Newcomer {
        role: plan.role,
        address: Some(join::reachable(plan.serves, token.clc)),
        hostname: join::hostname(),
    };
    let identity = join::join(plan.state.join("tls"), &token, newcomer).await?;
    println!("joined as {}", identity.peer);
    prove(plan).await?;
    println!("next: systemctl enable --now mallee-{}", plan.role);
    Ok(())
}

fn say(findings: &[Finding]) {
    for finding in findings
        .iter()
        .filter(|finding| finding.verdict != Verdict::Good)
    {
        eprintln!("{finding}");
    }
}

/// Calls the CLC with the new certificate. What only an administrator may ask is refused, by a
/// CLC that knows us.
async fn prove(plan: &Plan) -> Result<(), Error> {
    let member = Member::open(&plan.state.join("tls"), plan.role)?;
    match member.cloud.status(&Call::new("join"), Ask {}).await {
        Ok(_) => Ok(()),
        Err(refused) if refused.code == Code::Forbidden => Ok(()),
        Err(error) => Err(Error::Stranger(error)),
    }
}
