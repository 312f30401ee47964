use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::Full;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::{
    Agreed, Client, Door, Limits,
    certificate::{Certificate, Name, Source, Tls},
    client_config, serve,
};
use crate::{
    clock::{SharedClock, SystemClock},
    tls::{Asking, Authority},
};

const LIMITS: Limits = Limits {
    connections: 4,
    head_time: Duration::from_secs(5),
    head_bytes: 16 << 10,
    headers: 32,
    keep_header_case: false,
};
const ASK: &[u8] = b"GET / HTTP/1.1\r\nHost: cloud\r\nConnection: close\r\n\r\n";

fn now_ms() -> i64 {
    SystemClock::shared().now_ms()
}

fn authority() -> Arc<Authority> {
    Arc::new(Authority::create(now_ms()).unwrap())
}

/// An authority that answers, and counts how often.
fn signs(
    authority: Arc<Authority>,
    asked: Arc<AtomicUsize>,
) -> impl Fn(String, BTreeSet<String>) -> Asking {
    move |request, names| {
        asked.fetch_add(1, Ordering::SeqCst);
        let signed = authority.sign_public(&request, &names, now_ms());
        Box::pin(async move { Ok(signed?) })
    }
}

/// A certificate of the authority's for those names.
async fn certificate(
    authority: &Arc<Authority>,
    dir: &std::path::Path,
    names: &[&str],
) -> Certificate {
    let known = names.iter().map(|name| (*name).to_owned());
    let certificate = Certificate::open(Tls::default().source(dir.to_owned(), known)).unwrap();
    let (kept, stop) = (certificate.clone(), CancellationToken::new());
    let asks = signs(authority.clone(), Arc::default());
    stop.cancel();
    kept.keep(SystemClock::shared(), stop, asks).await;
    certificate
}

async fn start(plain: bool, certificate: Option<&Certificate>) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let door = Door {
        plain,
        tls: certificate.map(|certificate| certificate.server_config().unwrap()),
        limits: LIMITS,
        open: Default::default(),
    };
    tokio::spawn(serve(
        listener,
        door,
        CancellationToken::new(),
        |_, client: Client| async move {
            let text = Full::<bytes::Bytes>::from(format!("secure={}", client.secure));
            let answer = http::Response::builder()
                .header("etag", "\"tag\"")
                .header("x-amz-meta-some-name", "value");
            answer.body(text).unwrap()
        },
    ));
    address
}

async fn told<S: AsyncReadExt + AsyncWriteExt + Unpin>(mut stream: S) -> String {
    stream.write_all(ASK).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

/// What comes back for a request that is followed by another on the same connection.
async fn asked_twice(address: std::net::SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let first = format!("PUT / HTTP/1.1\r\nHost: cloud\r\n{head}\r\n");
    stream.write_all(first.as_bytes()).await.unwrap();
    told(stream).await
}

#[tokio::test]
async fn an_answer_instead_of_100_continue_is_the_last_of_its_connection() {
    let address = start(true, None).await;
    let answers = |said: &str| said.matches("200 OK").count();
    let kept = asked_twice(address, "Content-Length: 0\r\n").await;
    assert_eq!(answers(&kept), 2, "{kept}");
    let head = "Content-Length: 0\r\nExpect: 100-continue\r\n";
    let closed = asked_twice(address, head).await;
    assert_eq!(answers(&closed), 1, "{closed}");
    assert!(closed.contains("Connection: close"), "{closed}");
}

#[test]
fn what_a_handshake_agreed_on_is_read_as_it_was_written() {
    let suites = crate::tls::provider().cipher_suites.clone();
    for suite in suites {
        let agreed = Agreed {
            version: suite.version().version.as_str().unwrap(),
            cipher_suite: suite.suite().as_str().unwrap(),
        };
        assert_eq!(Agreed::parse(&agreed.to_string()), Some(agreed));
    }
    for odd in [
        "",
        "TLSv1_3",
        "TLSv1_3 NONE",
        "TLSv1_2 TLS13_AES_256_GCM_SHA384",
    ] {
        assert_eq!(Agreed::parse(odd), None, "{odd}");
    }
}

#[tokio::test]
async fn names_of_headers_are_spelled_as_clients_look_for_them() {
    let address = start(true, None).await;
    let answer = told(TcpStream::connect(address).await.unwrap()).await;
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    for name in [
        "Content-Length",
        "Date",
        "ETag",
        "Connection",
        "x-amz-meta-some-name",
    ] {
        assert!(head.contains(&format!("\r\n{name}: ")), "{name} in {head}");
    }
}

async fn over_tls(
    address: std::net::SocketAddr,
    authority: &Authority,
    name: &str,
) -> Result<String, String> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap())
        .unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let stream = TlsConnector::from(Arc::new(client_config(roots)))
        .connect(name, stream)
        .await
        .map_err(|error| error.to_string())?;
    Ok(told(stream).await)
}

#[tokio::test]
async fn http_and_https_are_answered_on_one_port() {
    let (authority, dir) = (authority(), tempfile::tempdir().unwrap());
    let certificate = certificate(
        &authority,
        dir.path(),
        &["cloud", "127.0.0.1", "*.s3.cloud"],
    )
    .await;
    let address = start(true, Some(&certificate)).await;

    let plain = told(TcpStream::connect(address).await.unwrap()).await;
    assert!(plain.ends_with("secure=false"), "{plain}");
    for name in ["cloud", "127.0.0.1", "bucket.s3.cloud"] {
        let answer = over_tls(address, &authority, name).await.unwrap();
        assert!(answer.ends_with("secure=true"), "{answer}");
    }
    let other = over_tls(address, &authority, "elsewhere")
        .await
        .unwrap_err();
    assert!(other.contains("not valid for name"), "{other}");
}

#[tokio::test]
async fn http_can_be_switched_off_and_says_so() {
    let (authority, dir) = (authority(), tempfile::tempdir().unwrap());
    let certificate = certificate(&authority, dir.path(), &["cloud"]).await;
    let address = start(false, Some(&certificate)).await;

    let plain = told(TcpStream::connect(address).await.unwrap()).await;
    assert!(
        plain.starts_with("HTTP/1.1 400") && plain.ends_with("https only"),
        "{plain}"
    );
    over_tls(address, &authority, "cloud").await.unwrap();
}

#[tokio::test]
async fn connections_that_say_nothing_or_nonsense_do_not_hold_up_others() {
    let (authority, dir) = (authority(), tempfile::tempdir().unwrap());
    let certificate = certificate(&authority, dir.path(), &["cloud"]).await;
    let address = start(true, Some(&certificate)).await;

    let _silent = TcpStream::connect(address).await.unwrap();
    let mut broken = TcpStream::connect(address).await.unwrap();
    broken
        .write_all(&[22, 3, 1, 0xff, 0xff, 0, 0])
        .await
        .unwrap();
    drop(TcpStream::connect(address).await.unwrap());
    over_tls(address, &authority, "cloud").await.unwrap();
}

#[tokio::test]
async fn until_the_authority_has_signed_http_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let source = Tls::default().source(dir.path().join("public"), ["cloud".to_owned()]);
    let certificate = Certificate::open(source).unwrap();
    let address = start(true, Some(&certificate)).await;

    let plain = told(TcpStream::connect(address).await.unwrap()).await;
    assert!(plain.ends_with("secure=false"), "{plain}");
    over_tls(address, &authority(), "cloud").await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_is_asked_for_once_and_again_for_other_names() {
    let (authority, dir) = (authority(), tempfile::tempdir().unwrap());
    let asked = Arc::new(AtomicUsize::new(0));
    for (names, expected) in [(["a"], 1), (["a"], 1), (["b"], 2)] {
        let known = names.map(str::to_owned);
        let certificate =
            Certificate::open(Tls::default().source(dir.path().to_owned(), known)).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        let asks = signs(authority.clone(), asked.clone());
        certificate.keep(SystemClock::shared(), stop, asks).await;
        assert_eq!(asked.load(Ordering::SeqCst), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn files_that_the_administrator_replaces_are_taken_up() {
    let (first, second) = (authority(), authority());
    let (dir, next) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificate(&first, dir.path(), &["cloud"]).await;
    certificate(&second, next.path(), &["cloud"]).await;
    let source = Source::Files {
        certificate: dir.path().join("cert.pem"),
        key: dir.path().join("key.pem"),
    };
    let shown = Certificate::open(source).unwrap();
    let clock: SharedClock = SystemClock::shared();
    let keep = shown.clone().keep(clock, CancellationToken::new(), |_, _| {
        panic!("files are the administrator's")
    });
    tokio::spawn(keep);
    tokio::task::yield_now().await;

    // The key first, as a careful administrator would; in between the old one stays in use.
    for name in ["key.pem", "cert.pem"] {
        std::fs::copy(next.path().join(name), dir.path().join(name)).unwrap();
    }
    tokio::time::sleep(Duration::from_secs(90)).await;
    tokio::time::resume();
    let address = start(true, Some(&shown)).await;
    over_tls(address, &second, "cloud").await.unwrap();
    over_tls(address, &first, "cloud").await.unwrap_err();
}

#[test]
fn names_between_daemons_and_nonsense_are_in_no_public_certificate() {
    for bad in [
        "",
        "a b",
        "walrus.mallee.internal",
        "*.mallee.internal",
        "MALLEE.INTERNAL",
        "a..b",
        "*",
        "a*.b",
    ] {
        assert!(Name::parse(bad).is_err(), "{bad}");
    }
    for good in ["cloud", "*.s3.lab.example", "10.0.0.1", "::1", "Cloud.Lab"] {
        Name::parse(good).unwrap();
    }
}

#[test]
fn a_certificate_and_its_key_go_together() {
    let half = Tls {
        certificate: Some("/a".into()),
        ..Tls::default()
    };
    assert!(half.check().unwrap_err().contains("go together"));
    let odd = Tls {
        names: vec!["a b".to_owned()],
        ..Tls::default()
    };
    assert!(odd.check().unwrap_err().contains("tls.names"));
}
