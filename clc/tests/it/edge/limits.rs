//! What holds a connection and gives nothing is let go. Time is stopped: it moves when nothing else
//! does.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::{Running, read};

/// Everything that waits for a client is below this.
const PATIENCE: Duration = Duration::from_secs(70);

async fn is_let_go(stream: &mut TcpStream) {
    let began = Instant::now();
    let mut rest = Vec::new();
    // A reset is as good an end as any.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(
        began.elapsed() < PATIENCE,
        "only after {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_given_up() {
    let edge = Running::alone().await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: ")
        .await
        .unwrap();
    is_let_go(&mut stream).await;

    let mut silent = TcpStream::connect(edge.address).await.unwrap();
    is_let_go(&mut silent).await;
}

#[tokio::test(start_paused = true)]
async fn a_form_that_never_comes_is_given_up() {
    let edge = Running::alone().await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = "POST /services/compute HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nAc";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("RequestTimeout"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_late_call_is_sent_again_by_itself_only_where_that_does_no_harm() {
    let edge = Running::alone().await;
    for (ask, status, code) in [
        ("RunInstances", 400, "IncorrectState"),
        ("RunInstances&ClientToken=once", 503, "Unavailable"),
        ("CopyImage", 400, "IncorrectState"),
        ("CopyImage&ClientToken=once", 503, "Unavailable"),
        ("DescribeSlowly", 503, "Unavailable"),
    ] {
        let body = format!("Action={ask}&Version=2015-10-01");
        let mut stream = TcpStream::connect(edge.address).await.unwrap();
        let form = edge.form("/", "ec2", &body, edge.now_ms());
        stream.write_all(&form).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}"))
                && answer.contains(&format!("<Code>{code}</Code>")),
            "{ask}: {answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_too_large_is_refused() {
    let edge = Running::alone().await;
    let mut request = b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec();
    for n in 0..200 {
        request.extend_from_slice(format!("x-{n}: {}\r\n", "a".repeat(1000)).as_bytes());
    }
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let _ = stream.write_all(&request).await;
    assert_eq!(read(&mut stream).await.status, 431);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_stalls_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = Running::start(listener.local_addr().unwrap()).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream
        .write_all(b"PUT /b/k HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe")
        .await
        .unwrap();
    let (_walrus, _) = listener.accept().await.unwrap();
    is_let_go(&mut stream).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = Running::start(listener.local_addr().unwrap()).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream
        .write_all(b"GET /b/k HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let (mut walrus, _) = listener.accept().await.unwrap();
    walrus
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n")
        .await
        .unwrap();
    let began = Instant::now();
    let megabyte = vec![0; 1 << 20];
    while walrus.write_all(&megabyte).await.is_ok() {}
    assert!(
        began.elapsed() < PATIENCE,
        "only after {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_in_the_middle_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let edge = Running::start(listener.local_addr().unwrap()).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream
        .write_all(b"GET /b/k HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    let (mut walrus, _) = listener.accept().await.unwrap();
    walrus
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    is_let_go(&mut stream).await;
}
