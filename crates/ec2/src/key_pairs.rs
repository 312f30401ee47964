//! Key pairs: made here, or brought in as a public key.

use serde::{Deserialize, Serialize};
use types::KeyPairId;
use wire::{Blob, IsoTime};

use crate::{Action, Filter, Tag, TagSpecification};

/// Makes a key pair. Its private half is in this answer and nowhere else.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CreateKeyPair {
    pub key_name: String,
    pub key_type: Option<KeyType>,
    pub key_format: Option<KeyFormat>,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyType {
    Rsa,
    Ed25519,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyFormat {
    Pem,
    Ppk,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateKeyPairOutput {
    pub key_name: String,
    pub key_fingerprint: String,
    pub key_material: String,
    pub key_pair_id: KeyPairId,
    pub tag_set: Vec<Tag>,
}

impl Action for CreateKeyPair {
    const NAME: &'static str = "CreateKeyPair";
    type Output = CreateKeyPairOutput;
}

/// Brings in a public key: the whole file in base64, as OpenSSH, PEM or base64 DER.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ImportKeyPair {
    pub key_name: String,
    pub public_key_material: Blob,
    #[serde(default, rename = "TagSpecification")]
    pub tag_specifications: Vec<TagSpecification>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportKeyPairOutput {
    pub key_name: String,
    pub key_fingerprint: String,
    pub key_pair_id: KeyPairId,
    pub tag_set: Vec<Tag>,
}

impl Action for ImportKeyPair {
    const NAME: &'static str = "ImportKeyPair";
    type Output = ImportKeyPairOutput;
}

/// Lists key pairs. Naming one that does not exist is an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribeKeyPairs {
    #[serde(default, rename = "KeyName")]
    pub key_names: Vec<String>,
    #[serde(default, rename = "KeyPairId")]
    pub key_pair_ids: Vec<KeyPairId>,
    pub include_public_key: Option<bool>,
    #[serde(default, rename = "Filter")]
    pub filters: Vec<Filter>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DescribeKeyPairsOutput {
    pub key_set: Vec<KeyPair>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyPair {
    pub key_name: String,
    pub key_fingerprint: String,
    pub key_pair_id: KeyPairId,
    pub key_type: KeyType,
    pub public_key: Option<String>,
    pub create_time: IsoTime,
    pub tag_set: Vec<Tag>,
}

impl Action for DescribeKeyPairs {
    const NAME: &'static str = "DescribeKeyPairs";
    type Output = DescribeKeyPairsOutput;
}

/// Forgets a key pair. One that does not exist is forgotten already.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DeleteKeyPair {
    pub key_name: Option<String>,
    pub key_pair_id: Option<KeyPairId>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeleteKeyPairOutput {
    #[serde(rename = "return")]
    pub done: bool,
    pub key_pair_id: Option<KeyPairId>,
}

impl Action for DeleteKeyPair {
    const NAME: &'static str = "DeleteKeyPair";
    type Output = DeleteKeyPairOutput;
}
