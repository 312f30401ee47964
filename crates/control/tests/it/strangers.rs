//! Who has no certificate, and who says nothing: neither takes what the cloud's daemons need.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Extension, extract::Request, routing::post};
use control::{
    Client, Role, Storage,
    rpc::{self, Call, Callers, ConnectedPeer, STRANGER_BYTES_MAX},
    server::{self, IDLE_TIMEOUT, STRANGER_STAY, STRANGERS_MAX},
};
use daemon::tls::join_config;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::mtls::{Lab, wish};

/// Longer than anything here may take, and far shorter than for ever.
const SOON: Duration = Duration::from_secs(10);

async fn connect(config: Arc<rustls::ClientConfig>, address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("sc.mallee.internal").unwrap();
    TlsConnector::from(config)
        .connect(name, stream)
        .await
        .unwrap()
}

fn stranger(lab: &Lab) -> Arc<rustls::ClientConfig> {
    join_config(lab.authority.fingerprint()).unwrap()
}

fn head(path: &str, length: usize) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontrol-version: 1\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// What is answered; the other end may close before it has read all.
async fn answer(stream: &mut TlsStream<TcpStream>) -> String {
    let mut said = Vec::new();
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

/// A listener with one call, which is anybody's.
async fn serve_anyone(lab: &Lab) -> SocketAddr {
    let echo = |Extension(peer): Extension<ConnectedPeer>, request: Request| {
        rpc::answer(
            Callers::Anyone,
            peer.0,
            request,
            async |_: Call, ask: String| Ok(ask.len()),
        )
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(
        listener,
        lab.tls(Role::Sc, "sc-1").server_config(),
        axum::Router::new().route("/v1/Cloud/join", post(echo)),
        CancellationToken::new(),
    ));
    address
}

#[tokio::test]
async fn who_may_not_call_is_told_so_before_a_byte_of_the_message() {
    let lab = Lab::new();
    let address = lab.serve(&CancellationToken::new()).await;
    let node = lab.tls(Role::Nc, "node-1").client_config();
    for config in [stranger(&lab), node] {
        let mut stream = connect(config, address).await;
        let head = head("/v1/Storage/volume", 60_000_000);
        stream.write_all(head.as_bytes()).await.unwrap();
        let said = answer(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 403"), "{said:?}");
    }
}

#[tokio::test]
async fn a_strangers_message_is_short_and_a_members_may_be_long() {
    let lab = Lab::new();
    let address = serve_anyone(&lab).await;
    let member = lab.tls(Role::Clc, "clc").client_config();
    for (config, length, status) in [
        (stranger(&lab), STRANGER_BYTES_MAX, "200"),
        (stranger(&lab), STRANGER_BYTES_MAX + 1, "400"),
        (member, STRANGER_BYTES_MAX + 1, "200"),
    ] {
        let mut stream = connect(config, address).await;
        let head = head("/v1/Cloud/join", length);
        let message = format!("\"{}\"", "x".repeat(length - 2));
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(message.as_bytes()).await.unwrap();
        let said = answer(&mut stream).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said:?}");
    }
}

#[tokio::test]
async fn strangers_have_a_few_connections_and_leave_the_others_theirs() {
    let lab = Lab::new();
    let address = lab.serve(&CancellationToken::new()).await;
    let mut guests = Vec::new();
    for _ in 0..=STRANGERS_MAX {
        guests.push(connect(stranger(&lab), address).await);
    }
    // In TLS 1.3 the client is done before the server is: that one is gone shows when it is read.
    let mut turned_away = 0;
    for guest in &mut guests {
        let gone = timeout(Duration::from_millis(300), guest.read_u8()).await;
        turned_away += usize::from(gone.is_ok());
    }
    assert_eq!(turned_away, 1);

    let clc = lab.tls(Role::Clc, "clc").client_config();
    let clc = Client::new(&clc, address, Role::Sc, None);
    assert!(clc.volume(&Call::new("r"), wish(1)).await.is_ok());
}

/// How long the other end bears with us, by the clock of this test.
async fn borne(stream: &mut TlsStream<TcpStream>, answers_pings: bool) -> Duration {
    // Handshakes over, nothing here waits for anything but the time.
    tokio::time::pause();
    let begun = Instant::now();
    let mut frame = [0; 9];
    while timeout(10 * IDLE_TIMEOUT, stream.read_exact(&mut frame))
        .await
        .expect("it bears with us for ever")
        .is_ok()
    {
        let length = usize::from(frame[1]) << 8 | usize::from(frame[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.unwrap();
        const PING: u8 = 6;
        if answers_pings && (frame[3], frame[4]) == (PING, 0) {
            frame[4] = 1;
            // It may be gone by now, which is what is waited for.
            let answer = [&frame[..], &payload].concat();
            if stream.write_all(&answer).await.is_err() {
                break;
            }
        }
    }
    let borne = begun.elapsed();
    tokio::time::resume();
    borne
}

/// The begin of HTTP/2: the preface and empty settings (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn nobody_stays_for_ever() {
    let lab = Lab::new();
    let address = lab.serve(&CancellationToken::new()).await;
    let member = lab.tls(Role::Clc, "clc").client_config();

    let mut silent = connect(stranger(&lab), address).await;
    silent.write_all(b"POST / HTTP/1.1\r\n").await.unwrap();
    let mut lively = connect(stranger(&lab), address).await;
    lively.write_all(PREFACE).await.unwrap();
    for stream in [&mut silent, &mut lively] {
        assert!(borne(stream, true).await <= STRANGER_STAY + Duration::from_secs(1));
    }

    let mut dead = connect(member.clone(), address).await;
    dead.write_all(PREFACE).await.unwrap();
    let noticed = borne(&mut dead, false).await;
    assert!(noticed < IDLE_TIMEOUT / 2, "{noticed:?}");

    let mut resting = connect(member, address).await;
    resting.write_all(PREFACE).await.unwrap();
    let rested = borne(&mut resting, true).await;
    assert!(
        rested >= IDLE_TIMEOUT && rested < IDLE_TIMEOUT + Duration::from_secs(40),
        "{rested:?}"
    );
}
