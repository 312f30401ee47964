//! Bodies that are verified as they stream: the documented examples, cut at every place.

use bytes::Bytes;
use proptest::prelude::*;
use sigv4::{BodyError, Finished, Rules, Verified};

use crate::Ask;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn put(kind: &str, headers: &str, signature: &str) -> Ask {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={headers},Signature={signature}"
    );
    Ask::new("PUT", "/examplebucket/chunkObject.txt", "")
        .header("host", "s3.amazonaws.com")
        .header("x-amz-date", "20130524T000000Z")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY")
        .header("content-encoding", "aws-chunked")
        .header("x-amz-decoded-content-length", "66560")
        .header("x-amz-content-sha256", kind)
        .header("authorization", &authorization)
}

fn signed_chunks() -> Verified {
    put(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
         x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    )
    .header("content-length", "66824")
    .verify(SECRET, &Rules::S3, "20130524T000100Z")
    .unwrap()
}

fn signed_trailer() -> Verified {
    put(
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
        "content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;\
         x-amz-storage-class;x-amz-trailer",
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    )
    .header("x-amz-trailer", "x-amz-checksum-crc32c")
    .verify(SECRET, &Rules::S3, "20130524T000100Z")
    .unwrap()
}

fn chunk(data: &[u8], signature: &str) -> Vec<u8> {
    let mut out = format!("{:x};chunk-signature={signature}\r\n", data.len()).into_bytes();
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
    out
}

fn documented_chunks() -> Vec<u8> {
    let mut body = chunk(
        &[b'a'; 65536],
        "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    );
    body.extend(chunk(
        &[b'a'; 1024],
        "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    ));
    body.extend(chunk(
        b"",
        "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ));
    body
}

fn documented_trailer() -> Vec<u8> {
    let mut body = chunk(
        &[b'a'; 65536],
        "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    );
    body.extend(chunk(
        &[b'a'; 1024],
        "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    ));
    body.extend_from_slice(
        b"0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n\
          x-amz-checksum-crc32c:sOO8/Q==\r\n\
          x-amz-trailer-signature:\
          d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
    );
    body
}

/// Feeds a body in pieces of the given size; gives the payload and the verdict.
fn read(verified: &Verified, body: &[u8], piece: usize) -> Result<(Vec<u8>, Finished), BodyError> {
    let mut verifier = verified.body(Some(66560));
    let mut payload = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        let mut input = Bytes::copy_from_slice(piece);
        while let Some(bytes) = verifier.take(&mut input)? {
            payload.extend_from_slice(&bytes);
        }
    }
    verifier.finish().map(|finished| (payload, finished))
}

#[test]
fn the_documented_chunks_are_read_however_they_are_cut() {
    let verified = signed_chunks();
    assert!(verified.is_chunked());
    for piece in [1, 7, 64, 1000, 65536, usize::MAX] {
        let (payload, finished) = read(&verified, &documented_chunks(), piece).unwrap();
        assert_eq!((payload.len(), finished.length), (66560, 66560));
        assert!(payload.iter().all(|b| *b == b'a'));
    }
}

#[test]
fn the_documented_trailer_is_read_and_its_signature_checked() {
    let (_, finished) = read(&signed_trailer(), &documented_trailer(), 4096).unwrap();
    assert_eq!(
        finished.trailers,
        [("x-amz-checksum-crc32c".into(), "sOO8/Q==".into())]
    );

    let forged = String::from_utf8(documented_trailer())
        .unwrap()
        .replace("sOO8", "sOO9");
    let refused = read(&signed_trailer(), forged.as_bytes(), 4096).unwrap_err();
    assert_eq!(refused, BodyError::SignatureMismatch);
}

#[test]
fn a_body_that_ends_early_or_late_is_refused() {
    let body = documented_chunks();
    let verified = signed_chunks();
    for end in [0, 1, 100, 65_700, 66_000, body.len() - 60] {
        let refused = read(&verified, &body[..end], 4096).unwrap_err();
        assert_eq!(refused, BodyError::Incomplete, "{end}");
    }
    let mut longer = body;
    longer.push(b'x');
    assert!(matches!(
        read(&verified, &longer, 4096),
        Err(BodyError::Malformed(_))
    ));
}

fn with_digest(body: &str) -> Verified {
    let mut head = http::Request::put("/b/k")
        .header("host", "h")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    let key = sigv4::sign::Key {
        access_key: "AKID",
        secret: SECRET,
        session_token: None,
    };
    let target = sigv4::sign::Target {
        region: "r",
        service: "s3",
    };
    let digest = sigv4::sha256_hex(body.as_bytes());
    sigv4::sign::v4_header(&mut head, key, target, &digest, 0).unwrap();
    let received = sigv4::Received::of(&head);
    let claim = sigv4::Claim::read(&received, "", &Rules::S3)
        .unwrap()
        .unwrap();
    claim.verify(&received, "", SECRET, &Rules::S3, 0).unwrap()
}

#[test]
fn a_promised_digest_is_held_to() {
    let read = |sent: &'static str, length| {
        let mut verifier = with_digest("hello").body(Some(length));
        let mut input = Bytes::from_static(sent.as_bytes());
        while verifier.take(&mut input)?.is_some() {}
        verifier.finish()
    };
    assert_eq!(read("hello", 5).unwrap().length, 5);
    assert!(matches!(
        read("hellO", 5),
        Err(BodyError::Sha256Mismatch { .. })
    ));
    assert_eq!(read("hell", 5), Err(BodyError::Incomplete));
    assert_eq!(read("hello!", 5), Err(BodyError::TooLong));
}

proptest! {
    #[test]
    fn a_changed_byte_never_passes(at in 0usize..66_824, bit in 0u8..8) {
        let mut body = documented_chunks();
        let at = at.min(body.len() - 3);
        let before = body[at];
        body[at] ^= 1 << bit;
        // The case of a hex digit of the size says nothing, nor does which byte a CR was.
        let says_the_same = body[at].eq_ignore_ascii_case(&before) || before == b'\r';
        prop_assume!(!says_the_same);
        prop_assert!(read(&signed_chunks(), &body, 4096).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(body: Vec<u8>, piece in 1usize..64) {
        let _ = read(&signed_chunks(), &body, piece);
        let _ = read(&signed_trailer(), &body, piece);
    }
}
