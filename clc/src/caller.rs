//! Who is asking, and how. The edge makes one from a verified signature; nobody else can.

use std::sync::Arc;

use ec2::{Code, Error};
use types::{AccountId, Arn};
use wire::RequestId;

/// The version that is assumed of a request without one: what all SDKs send.
pub const DEFAULT_VERSION: &str = "2016-11-15";

/// Whoever signed a request, with what may speak for and against them.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Account and user, as `iam::decide` knows them.
    principal: iam::Principal,
    account: AccountId,
    user: String,
    user_id: String,
    arn: Arn,
    policies: Arc<[iam::Policy]>,
    /// What conditions of policies look at: source address, time, transport.
    context: Arc<iam::Context>,
    request_id: RequestId,
    pub(crate) api_version: String,
    pub(crate) is_dry_run: bool,
    /// What the policies decide about, `ec2:RunInstances`, and where.
    pub(crate) acting: String,
    pub(crate) region: String,
}

/// What the edge has verified about the signer of a request.
#[derive(Debug, Clone)]
pub struct Verified {
    /// Account and user, as `iam::decide` knows them.
    pub principal: iam::Principal,
    /// The account.
    pub account: AccountId,
    /// The user's name; `admin` is the account's own.
    pub user: String,
    /// The user's unique id, `AIDA...`.
    pub user_id: String,
    /// Who it is, as GetCallerIdentity tells.
    pub arn: Arn,
    /// The policies of the user, its groups and its account.
    pub policies: Arc<[iam::Policy]>,
    /// The facts of the request: `aws:SourceIp`, `aws:SecureTransport`, `aws:CurrentTime`.
    pub context: iam::Context,
}

impl Caller {
    /// The signer of a request. Only the edge, which checks signatures, may say so.
    pub(crate) fn new(verified: Verified, request_id: RequestId) -> Self {
        Self {
            principal: verified.principal,
            account: verified.account,
            user: verified.user,
            user_id: verified.user_id,
            arn: verified.arn,
            policies: verified.policies,
            context: Arc::new(verified.context),
            request_id,
            api_version: DEFAULT_VERSION.to_owned(),
            is_dry_run: false,
            acting: String::new(),
            region: String::new(),
        }
    }

    /// A caller whom a test trusts.
    #[doc(hidden)]
    pub fn for_tests(verified: Verified, request_id: RequestId) -> Self {
        Self::new(verified, request_id)
    }

    /// The account in whose name everything is done.
    pub fn account(&self) -> &AccountId {
        &self.account
    }

    /// The user within the account.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The user's unique id.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Who it is, in one name.
    pub fn arn(&self) -> &Arn {
        &self.arn
    }

    /// The id of this request.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// The version of the API that the client speaks, `2016-11-15`. Dates compare as text.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// Whether nothing is to happen, only to be checked.
    pub fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Refuses what policies do not allow on a thing of EC2 in the caller's own account; `*` is one
    /// that is yet to be made, or any.
    pub fn may_touch(&self, kind: &str, id: &str) -> ec2::Result<()> {
        self.may(Arn::ec2(&self.region, &self.account, kind, id).as_str())
    }

    /// Refuses what policies do not allow on a thing of the caller's own account.
    pub fn may(&self, resource: &str) -> ec2::Result<()> {
        let request = iam::Request {
            principal: &self.principal,
            action: &self.acting,
            resource,
            owner: &self.account,
            context: &self.context,
        };
        let policies = iam::Policies {
            identity: &self.policies,
            resource: &[],
        };
        if iam::decide(&request, &policies).is_allow() {
            return Ok(());
        }
        let (who, action) = (&self.arn, &self.acting);
        let message = format!(
            "You are not authorized to perform this operation: {who} may not {action} on {resource}"
        );
        Err(Error::new(Code::UnauthorizedOperation, message))
    }
}
