//! From a claim to a verified caller, and what each refusal is called. EC2 says AuthFailure where
//! the later services say which part of a credential is wrong.

use http::StatusCode;
use sigv4::{Claim, Received, Refused, Rules, Verified};

use super::{Behind, Service, envelope::Failure};

/// What happened to a request's claim.
pub(super) struct Authentic<H> {
    pub(super) holder: H,
    pub(super) verified: Verified,
}

/// Settles who asks.
pub(super) async fn authenticate<B: Behind>(
    behind: &B,
    service: Service,
    received: &Received<'_>,
    form: &str,
    version_2: bool,
    now_ms: i64,
) -> Result<Authentic<B::Holder>, Failure> {
    let rules = Rules {
        services: service.scopes(),
        version_2,
        ..Rules::QUERY
    };
    let refused = |refused: Refused| name_refusal(service, &refused);

    let claim = Claim::read(received, form, &rules)
        .map_err(refused)?
        .ok_or_else(no_signature)?;
    let found = behind.find_key(&claim.access_key).await.map_err(|error| {
        tracing::error!(
            error = daemon::chain(&*error),
            "looking up an access key failed"
        );
        Failure::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Unavailable",
            "The cloud cannot check who you are at the moment. Try again.",
        )
    })?;
    let (secret, holder) = found.ok_or_else(|| unknown_key(service))?;
    let verified = claim
        .verify(received, form, secret.reveal(), &rules, now_ms)
        .map_err(refused)?;
    // No temporary credential exists yet, so none can be right.
    if verified.session_token.is_some() {
        return Err(unknown_key(service));
    }
    Ok(Authentic { holder, verified })
}

fn no_signature() -> Failure {
    Failure::new(
        StatusCode::FORBIDDEN,
        "MissingAuthenticationToken",
        "The request must contain a signature made with a valid access key.",
    )
}

fn unknown_key(service: Service) -> Failure {
    match service {
        Service::Ec2 | Service::Bootstrap => auth_failure(),
        Service::Iam | Service::Sts => Failure::new(
            StatusCode::FORBIDDEN,
            "InvalidClientTokenId",
            "The security token included in the request is invalid.",
        ),
    }
}

fn auth_failure() -> Failure {
    Failure::new(
        StatusCode::UNAUTHORIZED,
        "AuthFailure",
        "AWS was not able to validate the provided access credentials",
    )
}

fn bad(code: &'static str, refused: &Refused) -> Failure {
    Failure::new(
        StatusCode::BAD_REQUEST,
        code,
        sentence(&refused.to_string()),
    )
}

fn name_refusal(service: Service, refused: &Refused) -> Failure {
    match refused {
        Refused::Missing(_) => bad("MissingParameter", refused),
        Refused::TwoSignatures => bad("InvalidParameterCombination", refused),
        Refused::Malformed(_) => bad("IncompleteSignature", refused),
        Refused::Duplicated(_)
        | Refused::Unsupported(_)
        | Refused::BadDate(_)
        | Refused::BadExpires { .. }
        | Refused::BadPayloadHash(_) => bad("InvalidParameterValue", refused),
        Refused::Skewed { .. } | Refused::Expired { .. } => bad("RequestExpired", refused),
        Refused::WrongService { .. }
        | Refused::Unsigned(_)
        | Refused::PayloadMismatch { .. }
        | Refused::Mismatch(_) => wrong_signature(service, refused),
    }
}

/// EC2 says no more than that it cannot believe it; the others show what they had expected, which is
/// the best help there is for whoever writes a client and tells an attacker nothing.
fn wrong_signature(service: Service, refused: &Refused) -> Failure {
    if matches!(service, Service::Ec2 | Service::Bootstrap) {
        return auth_failure();
    }
    let mut message = sentence(&refused.to_string());
    if let Refused::Mismatch(expected) = refused {
        if let Some(canonical) = &expected.canonical_request {
            let canonical = String::from_utf8_lossy(canonical);
            message.push_str("\n\nThe Canonical String for this request should have been\n'");
            message.push_str(&canonical);
            message.push('\'');
        }
        let to_sign = String::from_utf8_lossy(&expected.string_to_sign);
        message.push_str("\n\nThe String-to-Sign should have been\n'");
        message.push_str(&to_sign);
        message.push('\'');
    }
    Failure::new(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message)
}

/// With a capital and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|c| c.to_ascii_uppercase());
    first
        .into_iter()
        .chain(letters)
        .chain(std::iter::once('.'))
        .collect()
}
