//! What changes tell: by whom and why they are made, and whom a bucket's owner may have told.

use std::sync::Arc;

use iam::Principal;
use s3::{Action, Error, documents::notification::Notifications};

use super::Ask;
use crate::engine::{
    self, Change, Failure,
    events::{Cause, Verb},
    facts::Bucket,
};

impl Ask<'_> {
    /// Makes a change in the name of who asked for it.
    pub(super) async fn commit(&self, change: Change) -> Result<engine::Done, Failure> {
        self.api.engine.commit_by(self.cause(), change).await
    }

    /// The same for many.
    pub(super) async fn commit_all(
        &self,
        changes: Vec<Change>,
    ) -> Vec<Result<engine::Done, Failure>> {
        self.api.engine.commit_all_by(self.cause(), changes).await
    }

    fn cause(&self) -> Arc<Cause> {
        Arc::new(Cause {
            verb: match self.action {
                Action::CopyObject => Verb::Copy,
                Action::PostObject => Verb::Post,
                _ => Verb::Put,
            },
            who: principal_id(&self.caller.principal),
            address: Some(self.origin.address),
            request_id: self.request_id.to_owned(),
            at: self.now,
        })
    }

    /// Every destination must be one that the administrator named, for this account or for all.
    pub(super) fn check_notifications(
        &self,
        notifications: &Notifications,
        bucket: &Bucket,
    ) -> Result<(), Error> {
        let destinations = &self.api.destinations;
        for rule in &notifications.0 {
            if destinations
                .find(rule.destination(), &bucket.owner)
                .is_none()
            {
                let why = "Unable to validate the following destination configurations";
                return Err(Error::invalid_argument("Destination", &rule.arn, why));
            }
        }
        Ok(())
    }
}

/// `AWS:` and who it is, as in the events of AWS.
fn principal_id(principal: &Principal) -> String {
    match principal {
        Principal::Anonymous => "Anonymous".to_owned(),
        Principal::Service(name) => (*name).to_owned(),
        Principal::Known { account, .. } if *principal == Principal::root(account.clone()) => {
            format!("AWS:{account}")
        }
        Principal::Known { arn, .. } => format!("AWS:{}", arn.as_str()),
    }
}
