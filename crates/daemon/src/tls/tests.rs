use std::{path::Path, sync::Arc, time::Duration};

use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::clock::SystemClock;

const MINUTE: Duration = Duration::from_secs(60);

fn now_ms() -> i64 {
    SystemClock::shared().now_ms()
}

fn made(dir: &Path, authority: &Authority, peer: Peer) -> Tls {
    Identity::make(dir, authority, &Issue::daemon(peer, now_ms())).unwrap();
    Tls::open(dir).unwrap()
}

fn clc() -> Peer {
    Peer::new(Role::Clc, "main", None).unwrap()
}

fn node() -> Peer {
    Peer::new(Role::Nc, "node-1", Some("mallee-1a")).unwrap()
}

/// Shakes hands over a pipe; returns whom the server saw, or why the client refused.
async fn shake(
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    name: &str,
) -> Result<Option<Peer>, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let serving = tokio::spawn(async move {
        let mut stream = tokio_rustls::TlsAcceptor::from(server).accept(far).await?;
        stream.write_all(b"x").await?;
        stream.flush().await?;
        let seen = stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|chain| chain[0].clone());
        std::io::Result::Ok(seen)
    });
    let mut stream = tokio_rustls::TlsConnector::from(client)
        .connect(name, near)
        .await
        .map_err(|error| error.to_string())?;
    stream.read_u8().await.map_err(|error| error.to_string())?;
    let seen = serving.await.unwrap().map_err(|error| error.to_string())?;
    Ok(seen.map(|der| Peer::of_certificate(&der).unwrap()))
}

#[tokio::test]
async fn each_side_learns_who_the_other_is_and_names_are_verified_not_addresses() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::create(now_ms()).unwrap();
    let clc = made(a.path(), &authority, clc());
    let nc = made(b.path(), &authority, node());

    let seen = shake(
        clc.server_config(),
        nc.client_config(),
        "clc.mallee.internal",
    )
    .await
    .unwrap();
    assert_eq!(seen, Some(node()));

    let own = Peer::own_name(Role::Nc, "node-1");
    assert!(
        shake(nc.server_config(), clc.client_config(), &own)
            .await
            .is_ok()
    );
    for wrong in ["node-2.nc.mallee.internal", "clc.mallee.internal"] {
        let refused = shake(nc.server_config(), clc.client_config(), wrong)
            .await
            .unwrap_err();
        assert!(refused.contains("certificate"), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_of_another_cloud_is_refused_by_both_sides() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let ours = made(a.path(), &Authority::create(now_ms()).unwrap(), clc());
    let foreign = made(b.path(), &Authority::create(now_ms()).unwrap(), node());
    assert!(
        shake(
            ours.server_config(),
            foreign.client_config(),
            "clc.mallee.internal"
        )
        .await
        .is_err()
    );
    assert!(
        shake(
            foreign.server_config(),
            ours.client_config(),
            "nc.mallee.internal"
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn a_newcomer_trusts_the_pinned_authority_only_and_shows_no_certificate() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::create(now_ms()).unwrap();
    let clc = made(a.path(), &authority, clc());

    let pinned = join_config(authority.fingerprint().to_string().parse().unwrap()).unwrap();
    let seen = shake(clc.server_config(), pinned.clone(), "clc.mallee.internal")
        .await
        .unwrap();
    assert_eq!(seen, None);

    // A node's certificate, from the right authority, is still not the CLC.
    let nc = made(b.path(), &authority, node());
    assert!(
        shake(nc.server_config(), pinned, "clc.mallee.internal")
            .await
            .is_err()
    );

    let other = Authority::create(now_ms()).unwrap().fingerprint();
    assert!(
        shake(
            clc.server_config(),
            join_config(other).unwrap(),
            "clc.mallee.internal"
        )
        .await
        .is_err()
    );
}

#[tokio::test]
async fn the_authority_ignores_what_a_request_claims_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(now_ms()).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["clc.mallee.internal".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    files::publish(dir.path().join("key.pem"), key.serialize_pem().as_bytes()).unwrap();

    let pem = authority
        .sign(&request, &Issue::daemon(node(), now_ms()))
        .unwrap();
    let identity = Joining::begin(dir.path())
        .unwrap()
        .finish(authority.certificate_pem(), &pem)
        .unwrap();
    assert_eq!(identity.peer, node());
    let tls = Tls::open(dir.path()).unwrap();
    assert!(
        shake(
            tls.server_config(),
            tls.client_config(),
            "clc.mallee.internal"
        )
        .await
        .is_err()
    );
}

#[test]
fn an_authority_reads_back_and_signs_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(now_ms()).unwrap();
    authority.save(dir.path()).unwrap();
    let again = Authority::load(dir.path()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    Identity::make(
        dir.path().join("tls"),
        &again,
        &Issue::daemon(clc(), now_ms()),
    )
    .unwrap();
}

#[test]
fn garbage_is_refused_by_name() {
    let authority = Authority::create(now_ms()).unwrap();
    for request in ["", "garbage", authority.certificate_pem()] {
        let error = authority
            .sign(request, &Issue::daemon(node(), now_ms()))
            .unwrap_err();
        assert!(error.to_string().contains("request"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    let joining = Joining::begin(dir.path()).unwrap();
    let other = tempfile::tempdir().unwrap();
    let request = Joining::begin(other.path()).unwrap().request_pem().unwrap();
    let pem = authority
        .sign(&request, &Issue::daemon(node(), now_ms()))
        .unwrap();
    let error = joining
        .finish(authority.certificate_pem(), &pem)
        .err()
        .unwrap();
    assert!(error.to_string().contains("another key"), "{error}");
    assert!(!Identity::exists(dir.path()));
}

#[tokio::test]
async fn a_certificate_past_two_thirds_is_renewed_and_taken_up_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(now_ms()).unwrap();
    // Backdated by a day and good for a minute: well past two thirds.
    let short = Issue {
        peer: node(),
        now_ms: now_ms(),
        lifetime: MINUTE,
    };
    Identity::make(dir.path(), &authority, &short).unwrap();
    let tls = Tls::open(dir.path()).unwrap();
    let before = tls.not_after_ms();

    let cancel = CancellationToken::new();
    let asked = cancel.clone();
    let ask = move |request: String| -> Asking {
        asked.cancel();
        let signed = authority.sign(&request, &Issue::daemon(node(), now_ms()));
        Box::pin(async move { Ok(signed?) })
    };
    renew(tls.clone(), SystemClock::shared(), cancel, ask).await;

    assert!(tls.not_after_ms() > before + 80 * 24 * 60 * 60 * 1000);
    assert!(tls.renew_at_ms() > now_ms());
    assert_eq!(
        Identity::load(dir.path()).unwrap().not_after_ms,
        tls.not_after_ms()
    );
}
