//! Browser uploads: the signature stands over the base64 text of a policy document, in the fields of
//! a form. Reading the form and judging the policy's conditions is the object store's part.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};

use crate::{
    Refused, Rules, Version,
    hash::{hmac_sha1, hmac_sha256, same},
    refused::Expected,
    v4::{self, Scope},
};

/// Who a form says has signed its policy.
#[derive(Debug, Clone)]
pub struct PolicyClaim {
    /// Whose secret the signature is to be checked with.
    pub access_key: String,
    /// The policy, as it was sent: base64 of JSON.
    pub policy: String,
    scope: Option<Scope>,
    signature: String,
}

impl PolicyClaim {
    /// Reads the fields of a form, their names in lower case. `None`: the form is not signed.
    pub fn read(fields: &HashMap<String, String>, rules: &Rules) -> Result<Option<Self>, Refused> {
        let Some(policy) = fields.get("policy").cloned() else {
            return Ok(None);
        };
        let field =
            |name: &str, missing| fields.get(name).cloned().ok_or(Refused::Missing(missing));

        if let Some(credential) = fields.get("x-amz-credential") {
            let algorithm = field("x-amz-algorithm", "X-Amz-Algorithm")?;
            if algorithm != v4::ALGORITHM {
                return Err(Refused::Unsupported(algorithm.chars().take(32).collect()));
            }
            let (access_key, scope) = Scope::parse(credential)?;
            if !rules.services.contains(&scope.service.as_str()) {
                return Err(Refused::WrongService {
                    given: scope.service,
                });
            }
            let signature = field("x-amz-signature", "X-Amz-Signature")?;
            return Ok(Some(Self {
                access_key,
                policy,
                scope: Some(scope),
                signature,
            }));
        }
        if !rules.version_2 {
            return Err(Refused::Unsupported("SignatureVersion 2".into()));
        }
        let access_key = field("awsaccesskeyid", "AWSAccessKeyId")?;
        let signature = field("signature", "Signature")?;
        Ok(Some(Self {
            access_key,
            policy,
            scope: None,
            signature,
        }))
    }

    /// How it is signed.
    pub fn version(&self) -> Version {
        match self.scope {
            Some(_) => Version::Four,
            None => Version::Two,
        }
    }

    /// Checks the signature; the policy's own expiration is the caller's to check.
    pub fn verify(&self, secret: &str) -> Result<(), Refused> {
        let policy = self.policy.as_bytes();
        let expected = match &self.scope {
            Some(scope) => hex::encode(hmac_sha256(&scope.signing_key(secret), policy)),
            None => STANDARD.encode(hmac_sha1(secret.as_bytes(), policy)),
        };
        if same(self.signature.as_bytes(), expected.as_bytes()) {
            return Ok(());
        }
        Err(Refused::Mismatch(Box::new(Expected {
            signature: self.signature.chars().take(128).collect(),
            string_to_sign: policy.to_vec(),
            canonical_request: None,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(fields: &[(&str, &str)]) -> HashMap<String, String> {
        fields
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// `euca-bundle-instance` signs so; the numbers come from `openssl dgst -sha1 -hmac secret`.
    #[test]
    fn a_version_2_policy_stands_by_its_signature() {
        let policy = "eyJleHBpcmF0aW9uIjoiMjAyNiJ9";
        let good = STANDARD.encode(hmac_sha1(b"secret", policy.as_bytes()));
        let claim = |signature: &str| {
            let fields = form(&[
                ("policy", policy),
                ("awsaccesskeyid", "AKID"),
                ("signature", signature),
                ("key", "image.part.00"),
            ]);
            PolicyClaim::read(&fields, &Rules::S3).unwrap().unwrap()
        };
        assert_eq!(claim(&good).verify("secret"), Ok(()));
        assert!(claim(&good).verify("other").is_err());
        assert!(claim("").verify("secret").is_err());
    }

    #[test]
    fn a_form_without_a_policy_speaks_for_nobody() {
        assert!(
            PolicyClaim::read(&form(&[("key", "a")]), &Rules::S3)
                .unwrap()
                .is_none()
        );
    }
}
