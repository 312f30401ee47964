//! Key pairs: made here or brought in, listed, forgotten. Only public halves are kept.

mod material;

use ec2::{
    Code, Tag,
    key_pairs::{
        CreateKeyPair, CreateKeyPairOutput, DeleteKeyPair, DeleteKeyPairOutput, DescribeKeyPairs,
        DescribeKeyPairsOutput, ImportKeyPair, ImportKeyPairOutput, KeyFormat, KeyPair, KeyType,
    },
};
use types::{KeyPairId, id::Id};

use super::{
    change,
    errors::{Error, Result},
    filters::{Field, Filterable, Filters},
    naming, tags,
};
use crate::{Caller, Clc, rows};
use material::PublicKey;

/// Makes an RSA key pair. The private half is in the answer and nowhere else.
pub async fn create_key_pair(
    clc: &Clc,
    caller: &Caller,
    ask: CreateKeyPair,
) -> Result<CreateKeyPairOutput> {
    naming::printable("KeyName", &ask.key_name)?;
    let tags = tags::of_new(&ask.tag_specifications, "key-pair")?;
    if ask.key_type == Some(KeyType::Ed25519) || ask.key_format == Some(KeyFormat::Ppk) {
        let message =
            "Only RSA keys in PEM are made here. Make others with ssh-keygen and import them.";
        return Err(Error::new(Code::UnsupportedOperation, message));
    }

    let seed = clc.mint(material::Seed::new);
    let made = tokio::task::spawn_blocking(move || material::make_rsa(seed))
        .await
        .map_err(ec2::Error::internal)?
        .map_err(ec2::Error::internal)?;
    let key_pair_id = add(clc, caller, &ask.key_name, made.public, &tags).await?;

    Ok(CreateKeyPairOutput {
        key_name: ask.key_name,
        key_fingerprint: made.fingerprint,
        key_material: made.pem.to_string(),
        key_pair_id,
        tag_set: tags::shown(tags),
    })
}

/// Brings in a public key.
pub async fn import_key_pair(
    clc: &Clc,
    caller: &Caller,
    ask: ImportKeyPair,
) -> Result<ImportKeyPairOutput> {
    naming::printable("KeyName", &ask.key_name)?;
    let tags = tags::of_new(&ask.tag_specifications, "key-pair")?;
    let key = material::read(&ask.public_key_material.0)
        .map_err(|error| Error::new(Code::InvalidKeyFormat, error.to_string()))?;

    let key_fingerprint = key.fingerprint.clone();
    let key_pair_id = add(clc, caller, &ask.key_name, key, &tags).await?;
    Ok(ImportKeyPairOutput {
        key_name: ask.key_name,
        key_fingerprint,
        key_pair_id,
        tag_set: tags::shown(tags),
    })
}

async fn add(
    clc: &Clc,
    caller: &Caller,
    name: &str,
    key: PublicKey,
    tags: &[(String, String)],
) -> Result<KeyPairId> {
    let row = rows::key_pairs::KeyPair {
        id: clc.mint(KeyPairId::mint),
        account: caller.account().clone(),
        public_key: format!("{} {}", key.openssh, name.replace(' ', "_")),
        name: name.to_owned(),
        kind: key.kind.to_owned(),
        fingerprint: key.fingerprint,
        created_at: clc.now(),
    };
    let (id, by, tags) = (row.id.clone(), caller.clone(), tags.to_vec());
    change(clc, caller, move |tx| {
        if rows::key_pairs::find(tx, &row.account, &row.name)?.is_some() {
            let message = format!("The keypair '{}' already exists.", row.name);
            return Err(Error::new(Code::InvalidKeyPairDuplicate, message));
        }
        rows::key_pairs::insert(tx, &row)?;
        tags::put_all(tx, &by, row.id.as_str(), "key-pair", &tags)
    })
    .await?;
    Ok(id)
}

impl Filterable for KeyPair {
    const FIELDS: &'static [Field<Self>] = &[
        ("fingerprint", |key| vec![key.key_fingerprint.clone()]),
        ("key-name", |key| vec![key.key_name.clone()]),
        ("key-pair-id", |key| vec![key.key_pair_id.to_string()]),
    ];

    fn tags(&self) -> Option<&[Tag]> {
        Some(&self.tag_set)
    }
}

/// Lists key pairs by name.
pub async fn describe_key_pairs(
    clc: &Clc,
    caller: &Caller,
    ask: DescribeKeyPairs,
) -> Result<DescribeKeyPairsOutput> {
    let filters = Filters::of(ask.filters)?;
    let account = caller.account().clone();
    let (rows, mut tags) = clc
        .db
        .read(move |tx| {
            let tags = rows::tags::by_resource(tx, &account, "key-pair")?;
            Ok::<_, Error>((rows::key_pairs::list(tx, &account)?, tags))
        })
        .await?;

    for name in &ask.key_names {
        if !rows.iter().any(|row| row.name == *name) {
            return Err(not_found(name));
        }
    }
    naming::all_found(&ask.key_pair_ids, |id| rows.iter().any(|row| row.id == *id))?;

    let is_any = ask.key_names.is_empty() && ask.key_pair_ids.is_empty();
    let shows_key = ask.include_public_key.unwrap_or(false);
    let key_set = rows
        .into_iter()
        .filter(|row| {
            is_any || ask.key_names.contains(&row.name) || ask.key_pair_ids.contains(&row.id)
        })
        .map(|row| KeyPair {
            tag_set: tags::shown(tags.remove(row.id.as_str()).unwrap_or_default()),
            key_type: if row.kind == "rsa" {
                KeyType::Rsa
            } else {
                KeyType::Ed25519
            },
            public_key: shows_key.then_some(row.public_key),
            key_name: row.name,
            key_fingerprint: row.fingerprint,
            key_pair_id: row.id,
            create_time: row.created_at.into(),
        })
        .filter(|key| filters.admit(key))
        .collect();
    Ok(DescribeKeyPairsOutput { key_set })
}

fn not_found(name: &str) -> Error {
    let message = format!("The key pair '{name}' does not exist");
    Error::new(Code::Id(KeyPairId::NOT_FOUND), message)
}

/// Forgets a key pair; one that does not exist is forgotten already. Instances keep their copy.
pub async fn delete_key_pair(
    clc: &Clc,
    caller: &Caller,
    ask: DeleteKeyPair,
) -> Result<DeleteKeyPairOutput> {
    if ask.key_name.is_none() && ask.key_pair_id.is_none() {
        return Err(ec2::Error::missing("KeyName").into());
    }
    let (account, by) = (caller.account().clone(), caller.clone());
    let key_pair_id = change(clc, caller, move |tx| {
        let is_asked = |row: &rows::key_pairs::KeyPair| {
            ask.key_name.as_ref().is_none_or(|name| *name == row.name)
                && ask.key_pair_id.as_ref().is_none_or(|id| *id == row.id)
        };
        let found = rows::key_pairs::list(tx, &account)?
            .into_iter()
            .find(is_asked);
        if let Some(row) = &found {
            by.may_touch("key-pair", &row.name)?;
            rows::key_pairs::delete(tx, &row.id)?;
        }
        Ok(found.map(|row| row.id))
    })
    .await?;
    Ok(DeleteKeyPairOutput {
        done: true,
        key_pair_id,
    })
}
