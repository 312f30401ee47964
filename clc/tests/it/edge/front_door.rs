//! S3 passes through: what a client sends is what Walrus gets, and when.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::Ordering,
    time::Duration,
};

use http::HeaderValue;
use sigv4::vouch::{HEADER, Origin, Vouched};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use super::{KEY, Running, read};

const OK: &[u8] =
    b"HTTP/1.1 200 OK\r\nx-amz-request-id: W1\r\nETag: \"e\"\r\nContent-Length: 2\r\n\r\nok";

/// A Walrus that shows each connection to the test.
async fn walrus() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if tell.send(stream).await.is_err() {
                return;
            }
        }
    });
    (address, told)
}

async fn take(connections: &mut mpsc::Receiver<TcpStream>) -> TcpStream {
    let taken = tokio::time::timeout(Duration::from_secs(5), connections.recv()).await;
    taken
        .expect("a connection to walrus")
        .expect("the listener lives")
}

/// Reads until the given text has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 65536];
    while !text.ends_with(end) {
        let reading = stream.read(&mut buffer);
        let n = tokio::time::timeout(Duration::from_secs(5), reading)
            .await
            .expect(&text)
            .unwrap();
        assert!(n > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..n]));
    }
    text
}

#[tokio::test]
async fn method_path_query_headers_and_body_arrive_as_they_were_sent() {
    let (address, mut connections) = walrus().await;
    let edge = Running::start(address).await;
    let request = "PUT /services/objectstorage/b/a%20b%2F..%2fc?acl&x=%2B HTTP/1.1\r\n\
        Host: 192.0.2.7:8773\r\nAuthorization: AWS AKID:c2ln\r\nDate: Mon, 23 Nov 2026 03:01:59 -0000\r\n\
        X-Amz-Acl: aws-exec-read\r\nAccept-Encoding: gzip, deflate\r\nContent-Length: 5\r\n";
    let mut client = TcpStream::connect(edge.address).await.unwrap();
    client
        .write_all(format!("{request}Connection: close\r\n\r\nhello").as_bytes())
        .await
        .unwrap();

    let mut upstream = take(&mut connections).await;
    assert_eq!(
        read_until(&mut upstream, "hello").await,
        format!("{request}\r\nhello")
    );
    upstream.write_all(OK).await.unwrap();
    let answer = read(&mut client).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok"));
    assert!(
        answer
            .head
            .contains("x-amz-request-id: W1\r\nETag: \"e\"\r\n"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn walrus_is_told_who_the_client_is_and_never_by_the_client() {
    let (address, mut connections) = walrus().await;
    let edge = Running::start(address).await;
    let forged = "203.0.113.9";
    for has_own_key in [false, true] {
        edge.cloud.has_own_key.store(has_own_key, Ordering::SeqCst);
        let request = format!(
            "GET /b/k?acl HTTP/1.1\r\nHost: h\r\nX-Mallee-Client: A http {forged} 1 00\r\n\
             X-Mallee-Client-Tls: {forged}\r\n\r\n"
        );
        let mut client = TcpStream::connect(edge.address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        let mut upstream = take(&mut connections).await;
        let seen = read_until(&mut upstream, "\r\n\r\n").await;
        assert!(!seen.contains(forged), "{seen}");

        let headers = seen.lines().filter_map(|line| line.split_once(": "));
        let mut words = headers.filter(|(name, _)| name.eq_ignore_ascii_case(HEADER));
        let value = words
            .next()
            .map(|(_, word)| HeaderValue::from_str(word).unwrap());
        assert_eq!(words.next(), None);
        assert_eq!(value.is_some(), has_own_key, "{seen}");
        if let Some(word) = value.as_ref().and_then(Vouched::read) {
            assert_eq!(word.access_key, KEY.access_key);
            let head = http::Request::get("/b/k?acl").body(()).unwrap();
            let told = word.verify(&head.into_parts().0, KEY.secret, edge.now_ms());
            let here = Origin {
                address: IpAddr::from([127, 0, 0, 1]),
                secure: false,
            };
            assert_eq!(told, Some(here));
        }
    }
}

#[tokio::test]
async fn the_body_is_asked_for_only_when_walrus_asks() {
    let (address, mut connections) = walrus().await;
    let edge = Running::start(address).await;
    let head = "PUT /b/k HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";

    let mut client = TcpStream::connect(edge.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut upstream = take(&mut connections).await;
    read_until(&mut upstream, "\r\n\r\n").await;
    upstream
        .write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        .await
        .unwrap();
    assert_eq!(read(&mut client).await.status, 403);

    let mut client = TcpStream::connect(edge.address).await.unwrap();
    client.write_all(head.as_bytes()).await.unwrap();
    let mut upstream = take(&mut connections).await;
    let seen = read_until(&mut upstream, "\r\n\r\n").await;
    assert!(
        seen.to_lowercase().contains("expect: 100-continue"),
        "{seen}"
    );
    let mut nothing = [0; 1];
    let early = tokio::time::timeout(Duration::from_millis(200), client.read(&mut nothing)).await;
    assert!(
        early.is_err(),
        "the client was told to go on before walrus said so"
    );

    upstream
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut client, "HTTP/1.1 100 Continue\r\n\r\n").await;
    client.write_all(b"hello").await.unwrap();
    read_until(&mut upstream, "hello").await;
    upstream.write_all(OK).await.unwrap();
    assert!(
        read_until(&mut client, "ok")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn a_body_streams_while_it_is_sent_and_so_does_an_answer() {
    let (address, mut connections) = walrus().await;
    let edge = Running::start(address).await;
    let mut client = TcpStream::connect(edge.address).await.unwrap();
    client
        .write_all(b"PUT /b/k HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfirst")
        .await
        .unwrap();
    let mut upstream = take(&mut connections).await;
    read_until(&mut upstream, "first").await;
    client.write_all(b"again").await.unwrap();
    read_until(&mut upstream, "again").await;

    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        .await
        .unwrap();
    read_until(&mut client, "first").await;
    upstream.write_all(b"again").await.unwrap();
    read_until(&mut client, "again").await;
}

#[tokio::test]
async fn connections_on_both_sides_are_kept_for_the_next_request() {
    let (address, mut connections) = walrus().await;
    let edge = Running::start(address).await;
    let mut client = TcpStream::connect(edge.address).await.unwrap();
    let mut upstream: Option<TcpStream> = None;
    for _ in 0..3 {
        client
            .write_all(b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n")
            .await
            .unwrap();
        let stream = match &mut upstream {
            Some(stream) => stream,
            none => none.insert(take(&mut connections).await),
        };
        read_until(stream, "\r\n\r\n").await;
        stream.write_all(OK).await.unwrap();
        read_until(&mut client, "ok").await;
    }
    assert!(connections.try_recv().is_err());
}

#[tokio::test]
async fn without_walrus_the_answer_is_an_s3_error_at_once() {
    let edge = Running::alone().await;
    let mut client = TcpStream::connect(edge.address).await.unwrap();
    let request =
        "PUT /b/<k> HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello";
    client
        .write_all(request.replace("<k>", "k&amp").as_bytes())
        .await
        .unwrap();
    let answer = read(&mut client).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.head.contains("Content-Type: application/xml"),
        "{answer:?}"
    );
    assert!(
        answer.body.contains("<Code>ServiceUnavailable</Code>"),
        "{answer:?}"
    );
    assert!(
        answer.body.contains("<Resource>/b/k&amp;amp</Resource>"),
        "{answer:?}"
    );
}
