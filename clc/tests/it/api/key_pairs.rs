//! Key pairs.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{World, all, enc, one};

pub(super) const PUBLIC: &str = include_str!("../../../src/api/key_pairs/testdata/rsa.pub");
const MD5: &str = include_str!("../../../src/api/key_pairs/testdata/rsa.md5");

#[tokio::test]
async fn a_made_key_has_its_private_half_in_the_answer_and_nowhere_else() {
    let world = World::new().await;
    let made = world.ok("Action=CreateKeyPair&KeyName=k").await;
    assert!(one(&made, "keyMaterial").starts_with("-----BEGIN RSA PRIVATE KEY-----\n"));
    let fingerprint = one(&made, "keyFingerprint");
    assert_eq!(fingerprint.len(), 20 * 3 - 1);

    let listed = world
        .ok("Action=DescribeKeyPairs&IncludePublicKey=true")
        .await;
    assert_eq!(one(&listed, "keyFingerprint"), fingerprint);
    assert!(one(&listed, "publicKey").starts_with("ssh-rsa AAAA"));
    assert!(!listed.contains("PRIVATE"));
    assert_eq!(
        world.code("Action=CreateKeyPair&KeyName=k").await,
        "InvalidKeyPair.Duplicate"
    );
}

#[tokio::test]
async fn an_imported_key_has_the_fingerprint_of_its_public_half() {
    let world = World::new().await;
    let material = enc(&STANDARD.encode(PUBLIC));
    let imported = world
        .ok(&format!(
            "Action=ImportKeyPair&KeyName=mine&PublicKeyMaterial={material}"
        ))
        .await;
    assert_eq!(one(&imported, "keyFingerprint"), MD5.trim());
    let again = format!("Action=ImportKeyPair&KeyName=mine&PublicKeyMaterial={material}");
    assert_eq!(world.code(&again).await, "InvalidKeyPair.Duplicate");
    let bad = format!(
        "Action=ImportKeyPair&KeyName=bad&PublicKeyMaterial={}",
        enc(&STANDARD.encode("ssh-rsa x"))
    );
    assert_eq!(world.code(&bad).await, "InvalidKey.Format");
}

#[tokio::test]
async fn keys_are_found_by_name_and_filter_and_a_missing_one_is_an_error() {
    let world = World::new().await;
    let material = enc(&STANDARD.encode(PUBLIC));
    for name in ["alpha", "beta"] {
        world.ok(&format!(
            "Action=ImportKeyPair&KeyName={name}&PublicKeyMaterial={material}\
             &TagSpecification.1.ResourceType=key-pair&TagSpecification.1.Tag.1.Key=name&TagSpecification.1.Tag.1.Value={name}"
        )).await;
    }
    assert_eq!(
        all(
            &world.ok("Action=DescribeKeyPairs&KeyName.1=beta").await,
            "keyName"
        ),
        ["beta"]
    );
    let filtered = world
        .ok("Action=DescribeKeyPairs&Filter.1.Name=tag:name&Filter.1.Value.1=a*")
        .await;
    assert_eq!(all(&filtered, "keyName"), ["alpha"]);
    let refusal = world
        .refused("Action=DescribeKeyPairs&KeyName.1=beta&KeyName.2=gamma")
        .await;
    assert_eq!(refusal.code, "InvalidKeyPair.NotFound");
    assert_eq!(refusal.message, "The key pair 'gamma' does not exist");
}

#[tokio::test]
async fn a_key_that_is_not_there_is_forgotten_without_complaint() {
    let world = World::new().await;
    let material = enc(&STANDARD.encode(PUBLIC));
    world
        .ok(&format!(
            "Action=ImportKeyPair&KeyName=k&PublicKeyMaterial={material}"
        ))
        .await;
    assert!(
        world
            .ok("Action=DeleteKeyPair&KeyName=k")
            .await
            .contains("<return>true</return><keyPairId>")
    );
    assert!(
        world
            .ok("Action=DeleteKeyPair&KeyName=k")
            .await
            .contains("<return>true</return>")
    );
    assert_eq!(world.count("key_pairs").await, 0);
    assert_eq!(world.code("Action=DeleteKeyPair").await, "MissingParameter");
}

#[tokio::test]
async fn a_name_that_would_break_a_line_is_refused() {
    let world = World::new().await;
    for name in ["a%0Ab", "%00", "%C3%A9", &"a".repeat(256)] {
        let refusal = world
            .refused(&format!("Action=CreateKeyPair&KeyName={name}"))
            .await;
        assert_eq!(refusal.code, "InvalidParameterValue", "{name}");
    }
}
