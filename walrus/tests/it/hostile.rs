//! What nobody sends by mistake, on raw sockets: each gets a documented code or a closed connection,
//! Walrus lives on in bounded memory, and nothing outside its folder is touched.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use sigv4::sign;
use testkit::seed;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    daemon_process::{ALICE, BOB, Walrus, now_ms},
    s3_client::{S3, pattern},
};

/// Memory that Walrus may have whatever is sent, in KiB: its limits of bodies, connections and
/// documents together.
const MEMORY_KIB_MAX: u64 = 400 << 10;

async fn walrus_with_bucket() -> (Walrus, S3) {
    let walrus = Walrus::start().await;
    let s3 = S3::of(&walrus, ALICE);
    s3.put("/bucket", b"").await.ok();
    (walrus, s3)
}

/// Sends bytes, closes the sending side if asked to, and reads all that comes.
async fn exchange(walrus: &Walrus, bytes: &[u8], closes: bool) -> String {
    let mut stream = TcpStream::connect(walrus.s3).await.unwrap();
    // Whoever is refused early is cut off while it writes.
    let _ = stream.write_all(bytes).await;
    if closes {
        let _ = stream.shutdown().await;
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(20), read).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The statuses of the answers in what came.
fn statuses(answers: &str) -> Vec<u16> {
    let heads = answers.split("HTTP/1.1 ").skip(1);
    heads
        .filter_map(|head| head.get(..3)?.parse().ok())
        .collect()
}

/// The head of a request of Alice's as it goes over the wire, without the empty line at its end. The
/// body is not signed, nor is any length: whoever wants one adds it, true or not.
fn head(walrus: &Walrus, method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let mut request = http::Request::builder()
        .method(method)
        .uri(target)
        .header("host", walrus.s3.to_string());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let key = sign::Key {
        access_key: ALICE.id,
        secret: ALICE.secret,
        session_token: None,
    };
    let scope = sign::Target {
        region: "mallee-1",
        service: "s3",
    };
    sign::v4_header(&mut parts, key, scope, "UNSIGNED-PAYLOAD", now_ms()).unwrap();
    let lines = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
    format!(
        "{method} {target} HTTP/1.1\r\n{}",
        lines.collect::<String>()
    )
}

fn whole(head: &str, body: &[u8]) -> Vec<u8> {
    let length = format!("content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), length.as_bytes(), body].concat()
}

async fn lives_on(walrus: &Walrus) {
    let s3 = S3::of(walrus, ALICE);
    let begun = Instant::now();
    s3.put("/bucket/alive", b"yes").await.ok();
    assert_eq!(&s3.get("/bucket/alive").await.ok().body[..], b"yes");
    assert!(begun.elapsed() < Duration::from_secs(5), "it answers late");
    assert!(
        walrus.resident_kib() < MEMORY_KIB_MAX,
        "{} KiB",
        walrus.resident_kib()
    );
}

/// Every name below a folder, but for what lies in `objects`, and for the public certificate, which the
/// cloud gives in its own time.
fn names(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = path.display().to_string();
        if text.contains("/public/") && text.contains("cert.pem") {
            continue;
        }
        found.insert(text);
        if path.is_dir() && !path.ends_with("objects") {
            found.extend(names(&path));
        }
    }
    found
}

fn percent_encoded(key: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
            (byte as char).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    key.bytes().map(encode).collect()
}

#[tokio::test]
async fn keys_that_look_like_paths_are_only_keys() {
    let (walrus, s3) = walrus_with_bucket().await;
    let before = names(walrus.folder.path());
    let long = "k".repeat(1024);
    let keys = [
        "..",
        ".",
        "../up",
        "../../../etc/passwd",
        "a/../../b",
        "a//b",
        "//",
        "/lead",
        "dir/",
        "dir/file",
        "dir",
        "%2e%2e%2f",
        "a%00b",
        "a\\..\\b",
        "\u{1}\u{1f}",
        "\u{7f}",
        "é/ü/漢字/🐨",
        "\u{202e}gnp.exe",
        "a b+c&d=e?f#g",
        "'\"<>&;`$(id)",
        &long,
        "CON",
        "nul.txt",
        "-rf",
    ];
    for (at, key) in keys.iter().enumerate() {
        let target = format!("/bucket/{}", percent_encoded(key));
        s3.put(&target, &pattern(20_000, at as u8)).await.ok();
    }
    for (at, key) in keys.iter().enumerate() {
        let target = format!("/bucket/{}", percent_encoded(key));
        assert!(
            s3.get(&target).await.ok().body == pattern(20_000, at as u8),
            "{key:?}"
        );
    }
    let list = s3.get("/bucket?list-type=2&encoding-type=url").await.ok();
    assert_eq!(list.elements("Key").len(), keys.len());

    let too_long = format!("/bucket/{}", "k".repeat(1025));
    s3.put(&too_long, b"").await.fails(400, "KeyTooLongError");
    for target in ["/bucket/%FF", "/bucket/%C0%AE%C0%AE", "/bucket/%ED%A0%80"] {
        let refused = s3.put(target, b"").await;
        assert!(
            refused.status.is_client_error(),
            "{target}: {}",
            refused.status
        );
    }
    for target in [
        "/..%2f..%2fetc/passwd",
        "/bucket%2f..%2fother/key",
        "/%00/key",
        "/a/../bucket",
    ] {
        let refused = s3.put(target, b"x").await;
        assert!(
            refused.status.is_client_error(),
            "{target}: {}",
            refused.status
        );
    }
    assert_eq!(
        names(walrus.folder.path()),
        before,
        "nothing is touched outside"
    );
    lives_on(&walrus).await;
}

#[tokio::test]
async fn a_copy_reads_nothing_but_what_may_be_read() {
    let (walrus, s3) = walrus_with_bucket().await;
    let bob = S3::of(&walrus, BOB);
    bob.put("/bobs", b"").await.ok();
    bob.put("/bobs/secret", b"of bob").await.ok();
    for source in [
        "",
        "/",
        "//",
        "bucket",
        "/bucket",
        "/bucket/",
        "bobs/secret",
        "/bobs/secret",
        "//bobs/secret",
        "/bucket/../bobs/secret",
        "/bucket/..%2f..%2fbobs%2fsecret",
        "bobs%2Fsecret",
        "%2Fbobs%2Fsecret",
        "/bobs/secret?versionId=",
        "/bobs/secret?versionId=null",
        "/bobs/secret?versionId=..%2f",
        "/bobs/secret?acl",
        "%",
        "%zz/x",
        "%FF%FE/x",
        "/etc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1/bobs/secret",
        "arn:aws:s3:::bobs/secret",
        "/bucket/absent",
        "?versionId=null",
    ] {
        for target in ["/bucket/copy", "/bucket/copy?partNumber=1&uploadId=none"] {
            let answer = s3
                .call("PUT", target, &[("x-amz-copy-source", source)], b"")
                .await;
            let status = answer.status;
            assert!(
                status.is_client_error(),
                "{source:?}: {status} {}",
                answer.text()
            );
        }
    }
    s3.get("/bucket/copy").await.fails(404, "NoSuchKey");
    lives_on(&walrus).await;
}

#[tokio::test]
async fn lengths_that_lie_leave_nothing_behind() {
    let (walrus, s3) = walrus_with_bucket().await;
    let body = pattern(1000, 1);
    let head = head(&walrus, "PUT", "/bucket/lie", &[]);
    let said = |lengths: &str| format!("{head}{lengths}\r\n").into_bytes();

    // Less than was promised, then nothing, then the end.
    let short = [said("content-length: 1000\r\n"), body[..999].to_vec()].concat();
    let answer = exchange(&walrus, &short, true).await;
    assert!(!statuses(&answer).contains(&200), "{answer}");

    for length in [
        "content-length: -1\r\n",
        "content-length: 1e3\r\n",
        "content-length: 99999999999999999999999999\r\n",
        "content-length: 1000\r\ncontent-length: 10\r\n",
        "content-length: 1000, 10\r\n",
        "content-length: 1000\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "content-length: 18446744073709551615\r\n",
        "",
    ] {
        let bytes = [said(length), body.clone()].concat();
        let answer = exchange(&walrus, &bytes, true).await;
        let statuses = statuses(&answer);
        assert!(
            statuses.iter().all(|status| (400..500).contains(status)),
            "{length}: {answer}"
        );
    }
    // Chunks of HTTP that are none.
    let chunked = said("transfer-encoding: chunked\r\nx-amz-decoded-content-length: 1000\r\n");
    for chunks in [
        "zz\r\nabc\r\n",
        "-5\r\nabcde\r\n",
        "ffffffffffffffffff\r\n",
        "5\r\nabcdefgh\r\n0\r\n\r\n",
        "5",
    ] {
        let bytes = [&chunked[..], chunks.as_bytes()].concat();
        let answer = exchange(&walrus, &bytes, true).await;
        assert!(
            statuses(&answer)
                .iter()
                .all(|status| (400..500).contains(status)),
            "{chunks:?}: {answer}"
        );
    }
    s3.get("/bucket/lie").await.fails(404, "NoSuchKey");

    // More than was promised is the next request, and none.
    let long = [
        said("content-length: 1000\r\n"),
        body.clone(),
        b"and more\r\n\r\n".to_vec(),
    ]
    .concat();
    let answer = exchange(&walrus, &long, true).await;
    assert_eq!(statuses(&answer)[0], 200, "{answer}");
    assert!(s3.get("/bucket/lie").await.ok().body == body);
    lives_on(&walrus).await;
}

/// A document of many megabytes, unsigned as to its body, in pieces.
async fn send_document(walrus: &Walrus, target: &str, piece: &[u8], pieces: usize) -> String {
    let head = head(walrus, "POST", target, &[]);
    let head = format!("{head}content-length: {}\r\n\r\n", piece.len() * pieces);
    let mut stream = TcpStream::connect(walrus.s3).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let write = async {
        writing.write_all(head.as_bytes()).await?;
        for _ in 0..pieces {
            writing.write_all(piece).await?;
        }
        std::io::Result::Ok(())
    };
    let mut answer = vec![0; 64 << 10];
    let read = async {
        let got = reading.read(&mut answer).await.unwrap_or(0);
        String::from_utf8_lossy(&answer[..got]).into_owned()
    };
    tokio::pin!(read);
    tokio::select! {
        text = &mut read => text,
        _ = write => read.await,
    }
}

#[tokio::test]
async fn documents_that_want_memory_get_none() {
    let (walrus, s3) = walrus_with_bucket().await;
    let begin = s3
        .call("POST", "/bucket/large?uploads", &[], b"")
        .await
        .ok();
    let upload = format!("/bucket/large?uploadId={}", begin.element("UploadId"));
    let bombs = [
        "<!DOCTYPE Delete [<!ENTITY a SYSTEM \"file:///etc/passwd\">]><Delete><Object><Key>&a;</Key></Object></Delete>".to_owned(),
        format!("<!DOCTYPE x [<!ENTITY a \"ha\">{}]><Delete><Object><Key>&b9;</Key></Object></Delete>",
            (1..10).map(|i| format!("<!ENTITY b{i} \"{}\">", format!("&b{};", i - 1).repeat(10))).collect::<String>()),
        "<Delete>".repeat(100_000),
        format!("<Delete {}/>", (0..50_000).map(|i| format!("a{i}=\"\" ")).collect::<String>()),
        "<Delete><Object><Key>a</Key>".to_owned(),
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?><Delete/>".to_owned(),
        "\u{0}\u{0}\u{0}".to_owned(),
        String::new(),
    ];
    for bomb in &bombs {
        for target in ["/bucket?delete", &upload] {
            let answer = s3.call("POST", target, &[], bomb.as_bytes()).await;
            let status = answer.status;
            assert!(
                status.is_client_error(),
                "{}: {status}",
                bomb.get(..60).unwrap_or(bomb)
            );
        }
        for target in ["/bucket?acl", "/other", "/bucket?versioning"] {
            let answer = s3.call("PUT", target, &[], bomb.as_bytes()).await;
            assert!(
                answer.status.as_u16() < 500 || answer.status.as_u16() == 501,
                "{}",
                answer.text()
            );
        }
    }

    // A hundred megabytes, and a million keys: refused on the way, not gathered.
    let spaces = vec![b' '; 1 << 20];
    let keys = "<Object><Key>some/key/of/a/million</Key></Object>".repeat(20_000);
    for (piece, pieces) in [(&spaces[..], 100), (keys.as_bytes(), 50)] {
        for target in ["/bucket?delete", &upload] {
            let answer = send_document(&walrus, target, piece, pieces).await;
            let status = statuses(&answer);
            // Cut off in the middle is an answer too.
            assert!(
                status.iter().all(|status| (400..500).contains(status)),
                "{answer}"
            );
        }
    }
    lives_on(&walrus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_who_never_finish_keep_nobody_waiting() {
    let (walrus, s3) = walrus_with_bucket().await;
    let unsigned =
        b"PUT /bucket/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nsome".to_vec();
    let authorised =
        head(&walrus, "PUT", "/bucket/slow", &[]) + "content-length: 1000000\r\n\r\nsome";
    let authorised = authorised.into_bytes();
    let mut open = Vec::new();
    for at in 0..2_000 {
        let mut stream = TcpStream::connect(walrus.s3).await.unwrap();
        let sent: &[u8] = match at % 4 {
            0 => b"",
            1 => b"GET /bucket HTTP/1.1\r\nhost: x\r\nx-slow:",
            2 => &unsigned,
            _ => &authorised,
        };
        let _ = stream.write_all(sent).await;
        open.push(stream);
    }
    lives_on(&walrus).await;
    drop(open);
    s3.get("/bucket/slow").await.fails(404, "NoSuchKey");
}

/// All at once: half read, half write.
async fn a_crowd(count: usize) {
    raise_open_files();
    let (walrus, s3) = walrus_with_bucket().await;
    s3.put("/bucket/object", &pattern(4096, 1)).await.ok();
    let gate = std::sync::Arc::new(tokio::sync::Barrier::new(count));
    let requests = (0..count).map(|at| {
        let (method, target) = match at % 2 {
            0 => ("GET", "/bucket/object".to_owned()),
            _ => ("PUT", format!("/bucket/crowd-{at}")),
        };
        let body = if at % 2 == 0 {
            Vec::new()
        } else {
            pattern(4096, 2)
        };
        let bytes = whole(&head(&walrus, method, &target, &[]), &body);
        let (address, gate) = (walrus.s3, gate.clone());
        tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            gate.wait().await;
            stream.write_all(&bytes).await.unwrap();
            let mut answer = vec![0; 16];
            stream.read_exact(&mut answer).await.unwrap();
            (statuses(&String::from_utf8_lossy(&answer))[0], stream)
        })
    });
    let requests: Vec<_> = requests.collect();
    let mut done = 0;
    for request in requests {
        let (status, _) = request.await.unwrap();
        assert!(matches!(status, 200 | 503), "{status}");
        done += usize::from(status == 200);
    }
    assert!(done > count / 2, "only {done} of {count} were served");
    lives_on(&walrus).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_at_once_are_answered() {
    a_crowd(1_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_ten_thousand_requests_at_once_are_answered() {
    if crate::is_long() {
        a_crowd(10_000).await;
    }
}

fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}

/// Requests that were right once, with bytes changed, left out, doubled and cut.
async fn noise(seed: u64, count: u64) {
    let _told = seed::Told { seed, steps: count };
    let mut rng = seed::rng(seed);
    let (walrus, _) = walrus_with_bucket().await;
    let before = names(walrus.folder.path());
    let right = [
        (
            "PUT",
            "/bucket/key?partNumber=1&uploadId=x",
            ("x-amz-meta-a", "b"),
        ),
        (
            "GET",
            "/bucket?list-type=2&prefix=a%2F&delimiter=%2F",
            ("range", "bytes=0-5"),
        ),
        ("PUT", "/bucket/copy", ("x-amz-copy-source", "/bucket/key")),
        (
            "POST",
            "/bucket?delete",
            ("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
        ),
    ];
    let right =
        right.map(|(method, target, header)| whole(&head(&walrus, method, target, &[header]), b""));
    for _ in 0..count {
        let mut bytes = seed::one_of(&mut rng, &right).unwrap().clone();
        for _ in 0..=seed::below(&mut rng, 6) {
            let at = seed::below(&mut rng, bytes.len() as u64) as usize;
            match seed::below(&mut rng, 4) {
                0 => bytes[at] = seed::below(&mut rng, 256) as u8,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, *seed::one_of(&mut rng, b"\r\n%&?=:/\0\xff ").unwrap()),
                _ => bytes.extend_from_within(at..),
            }
        }
        let answer = exchange(&walrus, &bytes, true).await;
        let wrong = statuses(&answer)
            .into_iter()
            .find(|status| *status >= 500 && !matches!(status, 501 | 503));
        assert_eq!(
            wrong,
            None,
            "{:?}\n{answer}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert_eq!(
        names(walrus.folder.path()),
        before,
        "nothing is touched outside"
    );
    lives_on(&walrus).await;
}

#[tokio::test]
async fn noise_is_refused() {
    noise(seed::asked().unwrap_or(1), seed::steps(400)).await;
}

#[tokio::test]
async fn long_much_noise_is_refused() {
    if crate::is_long() {
        noise(2, 20_000).await;
    }
}
