//! The query services: who is believed, who is not, and in which words.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use clc::edge;
use sigv4::sign::{Presign, Target};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{KEY, NOBODY, Running, read, settings, text};

const DESCRIBE: &str = "Action=DescribeRegions&Version=2015-10-01";

#[tokio::test]
async fn each_path_alias_leads_to_its_service_with_and_without_a_slash() {
    let edge = Running::alone().await;
    for (path, service) in [
        ("/services/compute/", "ec2"),
        ("/services/compute", "ec2"),
        ("/services/Eucalyptus/", "ec2"),
        ("/services/Euare/", "iam"),
        ("/services/Tokens/", "sts"),
        ("/services/Empyrean/", "bootstrap"),
        ("/services/Empyrean", "bootstrap"),
        ("/", "sts"),
        ("/", "ec2"),
    ] {
        let answer = edge
            .send(&edge.form(path, service, DESCRIBE, edge.now_ms()))
            .await;
        assert_eq!(answer.status, 200, "{path} {answer:?}");
        assert!(
            answer.head.contains("Content-Type: text/xml;charset=UTF-8"),
            "{answer:?}"
        );
        assert!(answer.head.contains("x-amzn-requestid: "), "{answer:?}");
        let expected = format!("{service}:DescribeRegions");
        assert_eq!(edge.cloud.calls().pop(), Some(expected), "{path}");
    }
}

async fn refused(edge: &Running, request: &[u8], status: u16, code: &str) {
    let before = edge.cloud.calls().len();
    let answer = edge.send(request).await;
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(
        answer.body.contains(&format!("<Code>{code}</Code>")),
        "{answer:?}"
    );
    assert_eq!(edge.cloud.calls().len(), before, "nothing may be done");
}

#[tokio::test]
async fn whoever_is_not_believed_gets_the_documented_code_and_nothing_is_done() {
    let edge = Running::alone().await;
    let now = edge.now_ms();
    let form =
        |at_ms| String::from_utf8(edge.form("/services/compute/", "ec2", DESCRIBE, at_ms)).unwrap();

    let unknown = form(now).replace(KEY.access_key, "AKIDUNKNOWN");
    refused(&edge, unknown.as_bytes(), 401, "AuthFailure").await;
    let wrong = form(now).replace("DescribeRegions", "DescribeRegionz");
    refused(&edge, wrong.as_bytes(), 401, "AuthFailure").await;
    refused(&edge, form(now - 301_000).as_bytes(), 400, "RequestExpired").await;
    refused(&edge, form(now + 301_000).as_bytes(), 400, "RequestExpired").await;
    let other = form(now).replace("/ec2/aws4", "/s3/aws4");
    refused(&edge, other.as_bytes(), 401, "AuthFailure").await;
    let unsigned: String = form(now)
        .lines()
        .filter(|l| !l.starts_with("authorization"))
        .map(|l| format!("{l}\r\n"))
        .collect();
    refused(
        &edge,
        unsigned.trim_end().as_bytes(),
        403,
        "MissingAuthenticationToken",
    )
    .await;
    let broken = form(now).replace(KEY.access_key, "AKIDBROKEN");
    refused(&edge, broken.as_bytes(), 503, "Unavailable").await;
}

#[tokio::test]
async fn missing_and_doubled_parameters_are_named() {
    let edge = Running::alone().await;
    let form = |body: &str| edge.form("/services/compute/", "ec2", body, edge.now_ms());
    refused(&edge, &form("Version=2015-10-01"), 400, "MissingAction").await;
    refused(
        &edge,
        &form("Action=DescribeRegions"),
        400,
        "MissingParameter",
    )
    .await;
    let twice = "Action=DescribeRegions&Version=2015-10-01&Action=TerminateInstances";
    refused(&edge, &form(twice), 400, "InvalidParameterValue").await;
    let split = edge.form(
        "/services/compute/?Action=RunInstances",
        "ec2",
        DESCRIBE,
        edge.now_ms(),
    );
    refused(&edge, &split, 400, "InvalidParameterValue").await;
}

#[tokio::test]
async fn sts_and_iam_answer_errors_in_their_own_form() {
    let edge = Running::alone().await;
    let request = edge.form("/services/Tokens/", "sts", DESCRIBE, edge.now_ms());
    let wrong = String::from_utf8(request)
        .unwrap()
        .replace("gzip, deflate", "gzip");
    let answer = edge.send(wrong.as_bytes()).await;
    assert_eq!(answer.status, 403);
    assert!(
        answer
            .body
            .contains("<ErrorResponse xmlns=\"https://sts.amazonaws.com"),
        "{answer:?}"
    );
    assert!(
        answer.body.contains("<Code>SignatureDoesNotMatch</Code>"),
        "{answer:?}"
    );
    assert!(
        answer
            .body
            .contains("The Canonical String for this request"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn errors_of_handlers_go_out_in_ec2s_form_and_defects_keep_their_cause_to_the_log() {
    let edge = Running::alone().await;
    let ask = async |action: &str| {
        let body = format!("Action={action}&Version=2015-10-01");
        edge.send(&edge.form("/", "ec2", &body, edge.now_ms()))
            .await
    };
    let unknown = ask("DescribeNothing").await;
    assert_eq!(unknown.status, 400);
    assert!(
        unknown
            .body
            .contains("<Response><Errors><Error><Code>InvalidAction</Code>")
    );
    assert!(unknown.body.contains("no &lt;such&gt; action"));
    let defect = ask("DescribeDefects").await;
    assert_eq!(defect.status, 500);
    assert!(!defect.body.contains("disk"), "{defect:?}");
}

#[tokio::test]
async fn a_service_that_we_do_not_have_is_a_client_error() {
    let edge = Running::alone().await;
    for path in ["/services/AutoScaling/", "/services/LoadBalancing"] {
        let answer = edge
            .send(&edge.form(path, "autoscaling", DESCRIBE, edge.now_ms()))
            .await;
        assert_eq!(answer.status, 400);
        assert!(
            answer.body.contains("<Code>InvalidAction</Code>"),
            "{answer:?}"
        );
    }
}

fn version_2(edge: &Running, action: &str, at_ms: i64) -> Vec<u8> {
    let host = edge.address.to_string();
    let fields = [
        ("Action", action),
        ("Version", "2015-10-01"),
        ("Name", "a name"),
    ];
    let body = sigv4::sign::v2_query("POST", &host, "/services/compute/", &fields, KEY, at_ms);
    let head = http::Request::post("/services/compute/")
        .header("host", host)
        .header("content-length", body.len())
        .header("content-type", "application/x-www-form-urlencoded")
        .header("connection", "close");
    text(&head.body(()).unwrap().into_parts().0, &body)
}

#[tokio::test]
async fn a_version_2_call_that_changes_something_is_taken_once() {
    let edge = Running::alone().await;
    let now = edge.now_ms();
    let register = version_2(&edge, "RegisterImage", now);
    let answer = edge.send(&register).await;
    assert_eq!(
        (answer.status, edge.cloud.calls().len()),
        (200, 1),
        "{answer:?}"
    );
    assert!(answer.body.contains("Name=a name"), "{answer:?}");
    assert!(!answer.body.contains("Signature"), "{answer:?}");
    refused(&edge, &register, 401, "AuthFailure").await;

    let describe = version_2(&edge, "DescribeImages", now);
    for _ in 0..2 {
        assert_eq!(edge.send(&describe).await.status, 200);
    }
    let version_4 = edge.form("/", "ec2", "Action=RebootInstances&Version=2015-10-01", now);
    for _ in 0..2 {
        assert_eq!(edge.send(&version_4).await.status, 200);
    }
}

#[tokio::test]
async fn a_signature_that_was_used_before_a_restart_is_refused_after_it() {
    let edge = Running::alone().await;
    let register = version_2(&edge, "RegisterImage", edge.now_ms());
    assert_eq!(edge.send(&register).await.status, 200);

    let edge = edge.restart().await;
    refused(&edge, &register, 401, "AuthFailure").await;
    assert_eq!(edge.cloud.calls().len(), 1);
}

#[tokio::test]
async fn a_signature_that_cannot_be_written_down_does_nothing() {
    let edge = Running::alone().await;
    edge.cloud.cannot_write.store(true, Ordering::SeqCst);
    let register = version_2(&edge, "RegisterImage", edge.now_ms());
    refused(&edge, &register, 503, "Unavailable").await;
    let describe = version_2(&edge, "DescribeImages", edge.now_ms());
    assert_eq!(edge.send(&describe).await.status, 200);
}

#[tokio::test]
async fn version_2_can_be_switched_off() {
    let off = edge::Settings {
        version_2: false,
        ..settings(NOBODY.parse().unwrap())
    };
    let edge = Running::with(Arc::default(), off).await;
    let describe = version_2(&edge, "DescribeImages", edge.now_ms());
    refused(&edge, &describe, 400, "InvalidParameterValue").await;
    let body = "Action=DescribeImages&Version=2015-10-01";
    let version_4 = edge.form("/", "ec2", body, edge.now_ms());
    assert_eq!(edge.send(&version_4).await.status, 200);
}

#[tokio::test]
async fn a_presigned_version_4_call_that_changes_something_is_taken_once_and_lives_shortly() {
    let edge = Running::alone().await;
    let host = edge.address.to_string();
    let presigned = |action: &str, expires_secs| {
        let ask = Presign {
            headers: &[],
            method: "GET",
            host: &host,
            path: "/",
            query: &format!("Action={action}&Version=2015-10-01"),
            expires_secs,
        };
        let target = Target {
            region: "eucalyptus",
            service: "ec2",
        };
        let address = sigv4::sign::v4_presign(ask, KEY, target, edge.now_ms());
        format!("GET {address} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    let reboot = presigned("RebootInstances", 900);
    let answer = edge.send(reboot.as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    refused(&edge, reboot.as_bytes(), 401, "AuthFailure").await;
    let long = presigned("RebootInstances", 901);
    refused(&edge, long.as_bytes(), 400, "InvalidParameterValue").await;

    let describe = presigned("DescribeImages", 86_400);
    for _ in 0..2 {
        assert_eq!(edge.send(describe.as_bytes()).await.status, 200);
    }
}

#[tokio::test]
async fn the_signature_of_an_action_that_nobody_knows_takes_no_room() {
    let edge = Running::alone().await;
    let invented = version_2(&edge, "InventedAction", edge.now_ms());
    for _ in 0..2 {
        assert_ne!(edge.send(&invented).await.status, 401);
    }
}

#[tokio::test]
async fn a_get_is_as_good_as_a_post_and_nothing_else_is() {
    let edge = Running::alone().await;
    let host = edge.address.to_string();
    let fields = [("Action", "DescribeZones"), ("Version", "2009-11-30")];
    let query = sigv4::sign::v2_query(
        "GET",
        &host,
        "/services/Eucalyptus",
        &fields,
        KEY,
        edge.now_ms(),
    );
    let line = format!(
        "/services/Eucalyptus?{query} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(
        edge.send(format!("GET {line}").as_bytes()).await.status,
        200
    );
    assert_eq!(
        edge.send(format!("DELETE {line}").as_bytes()).await.status,
        405
    );
}

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let edge = Running::alone().await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = format!(
        "POST /services/compute/ HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        64 << 20
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may close before all of it was taken; what counts is its answer.
    let _ = stream.write_all(&vec![b'a'; 1536 << 10]).await;
    let answer = read(&mut stream).await;
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_stop_what_it_began() {
    let edge = Running::alone().await;
    let run = edge.form(
        "/",
        "ec2",
        "Action=RunInstances&Version=2015-10-01",
        edge.now_ms(),
    );
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(&run).await.unwrap();
    wait_until(|| edge.cloud.calls().len() == 1).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(50)).await;
    edge.cloud.go_on.notify_one();
    wait_until(|| edge.cloud.finished.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_stopping_edge_finishes_what_it_was_asked_and_takes_no_more() {
    let edge = Running::alone().await;
    let run = edge.form(
        "/",
        "ec2",
        "Action=RunInstances&Version=2015-10-01",
        edge.now_ms(),
    );
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(&run).await.unwrap();
    wait_until(|| edge.cloud.calls().len() == 1).await;

    let idle = TcpStream::connect(edge.address).await.unwrap();
    let draining = edge.context.drain(Duration::from_secs(5));
    let finish = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        edge.cloud.go_on.notify_one();
        read(&mut stream).await
    };
    let (drained, answer) = tokio::join!(draining, finish);
    assert_eq!((drained, answer.status), (Ok(()), 200));
    drop(idle);
    assert!(TcpStream::connect(edge.address).await.is_err());
}

#[tokio::test]
async fn every_action_is_counted_and_made_up_names_are_not_labels() {
    let edge = Running::alone().await;
    for action in ["DescribeRegions", "InventedAction"] {
        let body = format!("Action={action}&Version=2015-10-01");
        edge.send(&edge.form("/", "ec2", &body, edge.now_ms()))
            .await;
    }
    let text = edge.context.metrics.encode();
    let line =
        "mallee_clc_action_total{service=\"ec2\",action=\"DescribeRegions\",status=\"200\"} 1";
    assert!(text.contains(line), "{text}");
    assert!(
        text.contains("action=\"unknown\"") && !text.contains("InventedAction"),
        "{text}"
    );
}

async fn wait_until(holds: impl Fn() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never came true");
}
