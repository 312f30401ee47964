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
    /// The same, found when it had joined.
    #[error(
        "joined, but this host is not fit for a {0} yet; do what is said above, then \
         `systemctl enable --now mallee-{0}`: there is no need to join again"
    )]
    UnfitMember(Role),
    /// The state folder cannot be made.
    #[error(transparent)]
    State(#[from] daemon::files::Error),
    /// The CLC refused, or the files could not be written.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// What was written cannot be read back.
    #[error("joined, but the certificate cannot be used")]
    Member(#[from] member::Error),
    /// The CLC does not know its own certificate.
    #[error(
        "joined, but the Cloud Controller does not answer to the new certificate: {0}\n     fix: {fix}",
        fix = stranger_fix(.0.code)
    )]
    Stranger(CallError),
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
    /// Where a Storage Controller has its pool.
    pub pool: Option<PathBuf>,
    /// What a node needs besides.
    pub node: Option<NodeWanted>,
}

impl Plan {
    fn wanted(&self, clc: SocketAddr) -> Wanted {
        Wanted {
            state: self.state.clone(),
            listens: [&[self.serves], self.listens.as_slice()].concat(),
            clc: Some(clc),
            pool: self.pool.clone(),
            node: self.node.clone(),
        }
    }
}

/// Looks at the host, joins, proves that the certificate is taken, and looks again, now with the
/// CLC's time at hand. Prints what is not good, with cause and fix, on standard error and what comes
/// next on standard output.
pub async fn become_member(plan: &Plan, token: &str) -> Result<(), Error> {
    let token: JoinToken = token.parse()?;
    let before = look(plan, &token).await;
    say(&before);
    if examine::worst(&before) == Verdict::Bad {
        return Err(Error::Unfit(plan.role));
    }
    let newcomer = Newcomer {
        role: plan.role,
        address: Some(join::reachable(plan.serves, token.clc)),
        hostname: join::hostname(),
    };
    // Itself, for `join` would make it as a parent that others pass.
    daemon::files::make_dir(&plan.state)?;
    let welcome = join::join(plan.state.join("tls"), &token, newcomer).await?;
    println!("joined as {}", welcome.identity.peer);
    prove(plan).await?;

    let mut after = look(plan, &token).await;
    after.extend(welcome.clc_ahead_ms.map(examine::clock_beside));
    // What was said before and is as it was needs no second telling.
    let is_new = |finding: &Finding| !before.contains(finding);
    say(&after
        .iter()
        .filter(|one| is_new(one))
        .cloned()
        .collect::<Vec<_>>());
    if examine::worst(&after) == Verdict::Bad {
        return Err(Error::UnfitMember(plan.role));
    }
    println!("next: systemctl enable --now mallee-{}", plan.role);
    Ok(())
}

async fn look(plan: &Plan, token: &JoinToken) -> Vec<Finding> {
    examine::host(&plan.wanted(token.clc), SystemClock::shared().now_ms()).await
}

const fn stranger_fix(code: Code) -> &'static str {
    match code {
        Code::Unreachable | Code::Deadline | Code::NotReady | Code::Internal | Code::NoRoom => {
            "see that mallee-clc runs and that this host's clock is right, then start the daemon: it \
             asks by itself until it is heard"
        }
        Code::Forbidden | Code::NotFound | Code::Invalid | Code::Conflict => {
            "remove the folder `tls` in the state folder, and join with a new token"
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_to_join_says_what_to_do() {
        let codes = [
            Code::Unreachable,
            Code::Deadline,
            Code::Forbidden,
            Code::NotFound,
            Code::NoRoom,
            Code::Invalid,
            Code::Conflict,
            Code::NotReady,
            Code::Internal,
        ];
        let clc: SocketAddr = "192.0.2.10:8777".parse().unwrap();
        for code in codes {
            let error = CallError::new(code, "the cause");
            let refused = Error::from(JoinError::Refused(clc, error.clone()));
            for failure in [refused, Error::Stranger(error)] {
                let said = daemon::chain(&failure);
                let (cause, fix) = said.split_once("fix: ").expect("it has a fix");
                assert!(cause.contains("the cause") && fix.len() > 20, "{said}");
                assert_eq!(said.matches("the cause").count(), 1, "{said}");
            }
        }
        let unfit = Error::UnfitMember(Role::Nc).to_string();
        assert!(
            unfit.contains("systemctl enable --now mallee-nc"),
            "{unfit}"
        );
    }
}
