//! Who may do what, by lists, by policies of both kinds, and by what a bucket lets count.

use super::*;
use s3::{
    acl::Canned,
    documents::ownership::{Ownership, PublicAccessBlock},
    headers::Attributes,
};
use std::sync::Arc;
use types::Timestamp;

fn account(digit: char) -> AccountId {
    digit.to_string().repeat(12).parse().unwrap()
}

fn bucket(acl: &str) -> Bucket {
    Bucket {
        name: BucketName::parse("bucket").unwrap(),
        id: String::new(),
        owner: account('1'),
        created: Timestamp(0),
        location: None,
        settings: s3::settings::Settings::default(),
        acl: Canned::parse(acl)
            .unwrap()
            .resolve(&account('1'), &account('1')),
    }
}

fn object(owner: char, acl: &str) -> Object {
    Object {
        bucket: BucketName::parse("bucket").unwrap(),
        key: Key::parse("key").unwrap(),
        version: VersionId::null(),
        order: 0,
        etag: String::new(),
        size: 0,
        modified: Timestamp(0),
        owner: account(owner),
        acl: Canned::parse(acl)
            .unwrap()
            .resolve(&account(owner), &account('1')),
        attributes: Attributes::default(),
        checksum: None,
        tags: Tags::default(),
        lock: s3::documents::lock::Locked::default(),
        encryption: None,
        body: crate::engine::Body::Inline,
        upload_id: None,
    }
}

fn root(digit: char) -> Caller {
    Caller {
        principal: Principal::root(account(digit)),
        ..Caller::anonymous()
    }
}

fn member(digit: char, policies: &[&str]) -> Caller {
    let arn = Arn::user(&account(digit), "/", "ann");
    let policies = policies
        .iter()
        .map(|text| Policy::parse_identity(text).unwrap());
    Caller {
        principal: Principal::user(account(digit), arn),
        policies: Some(policies.collect::<Vec<_>>().into()),
    }
}

fn may(caller: &Caller, action: Action, ask: impl Fn(&Wish<'_>) -> Result<()>) -> bool {
    ask(&Wish {
        caller,
        action,
        context: &Context::new(),
        people: &Directory::default(),
        list_needed: None,
    })
    .is_ok()
}

#[test]
fn lists_open_buckets_and_objects_as_far_as_they_say() {
    let (own, other, nobody) = (root('1'), root('2'), Caller::anonymous());
    let lists = |caller: &Caller, acl: &str| {
        may(caller, Action::ListObjects, |wish| {
            wish.on_bucket(&bucket(acl))
        })
    };
    assert!(lists(&own, "private") && !lists(&other, "private") && !lists(&nobody, "private"));
    assert!(lists(&other, "public-read") && lists(&nobody, "public-read"));
    assert!(lists(&other, "authenticated-read") && !lists(&nobody, "authenticated-read"));

    let key = Key::parse("key").unwrap();
    let puts = |caller: &Caller, acl: &str| {
        may(caller, Action::PutObject, |wish| {
            wish.on_key(&bucket(acl), &key)
        })
    };
    assert!(puts(&own, "public-read") && !puts(&other, "public-read"));
    assert!(puts(&nobody, "public-read-write"));

    let gets = |caller: &Caller, acl: &str| {
        may(caller, Action::GetObject, |wish| {
            wish.on_object(&bucket("private"), &object('2', acl), false)
        })
    };
    assert!(
        gets(&other, "private") && !gets(&own, "private"),
        "the bucket's owner is not asked"
    );
    assert!(gets(&own, "bucket-owner-read") && gets(&nobody, "public-read"));
}

#[test]
fn a_user_may_what_policies_say_and_no_list_widens_it_but_a_public_one() {
    let nothing = member('1', &[]);
    let reader = member(
        '1',
        &[
            r#"{"Statement":{"Effect":"Allow","Action":"s3:Get*","Resource":"arn:aws:s3:::bucket/*"}}"#,
        ],
    );
    let barred = member(
        '1',
        &[r#"{"Statement":{"Effect":"Deny","Action":"s3:*","Resource":"*"}}"#],
    );
    let gets = |caller: &Caller, acl: &str| {
        may(caller, Action::GetObject, |wish| {
            wish.on_object(&bucket("private"), &object('1', acl), false)
        })
    };
    assert!(!gets(&nothing, "private") && gets(&reader, "private"));
    assert!(gets(&nothing, "public-read") && !gets(&barred, "public-read"));

    let lists = |caller: &Caller| may(caller, Action::ListBuckets, |wish| wish.on_account(None));
    assert!(!lists(&reader) && lists(&root('1')) && !lists(&Caller::anonymous()));
}

#[test]
fn the_cloud_itself_reads_objects_and_does_nothing_else() {
    let system = Caller {
        principal: Principal::root(AccountId::system()),
        policies: Some(Arc::new([])),
    };
    assert!(may(&system, Action::GetObject, |wish| wish.on_object(
        &bucket("private"),
        &object('2', "private"),
        false
    )));
    assert!(!may(&system, Action::GetObjectAcl, |wish| wish.on_object(
        &bucket("private"),
        &object('2', "private"),
        false
    )));
    assert!(!may(&system, Action::ListObjects, |wish| wish
        .on_bucket(&bucket("public-read"))));
    assert!(!may(&system, Action::CreateBucket, |wish| wish.on_account(None)));
}

#[test]
fn only_who_may_list_learns_that_a_key_is_absent() {
    let key = Key::parse("key").unwrap();
    let absent = |caller: &Caller, acl: &str| {
        let wish = Wish {
            caller,
            action: Action::GetObject,
            context: &Context::new(),
            people: &Directory::default(),
            list_needed: None,
        };
        wish.on_absent(&bucket(acl), &key, None).code
    };
    assert_eq!(absent(&root('1'), "private"), Code::NoSuchKey);
    assert_eq!(absent(&root('2'), "private"), Code::AccessDenied);
    assert_eq!(absent(&Caller::anonymous(), "public-read"), Code::NoSuchKey);
}

fn with_policy(acl: &str, policy: &str) -> Bucket {
    let mut bucket = bucket(acl);
    bucket.settings.policy = Some(policy.to_owned());
    bucket
}

#[test]
fn a_bucket_policy_opens_and_closes() {
    let everyone_reads = r#"{"Statement":{"Effect":"Allow","Principal":"*",
        "Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket/*"}}"#;
    let gets = |caller: &Caller, bucket: &Bucket, owner| {
        may(caller, Action::GetObject, |wish| {
            wish.on_object(bucket, &object(owner, "private"), false)
        })
    };
    let mut open = with_policy("private", everyone_reads);
    assert!(gets(&Caller::anonymous(), &open, '1') && gets(&root('2'), &open, '1'));
    assert!(
        !gets(&Caller::anonymous(), &open, '2'),
        "it is not the bucket's to give"
    );
    open.settings.public_access_block = Some(PublicAccessBlock {
        restrict_buckets: true,
        ..PublicAccessBlock::default()
    });
    assert!(!gets(&root('2'), &open, '1') && gets(&root('1'), &open, '1'));

    let nobody =
        r#"{"Statement":{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*"}}"#;
    let closed = with_policy("public-read-write", nobody);
    assert!(!gets(&root('1'), &closed, '1'));
    let mends = |caller: Caller| {
        let action = Action::PutBucketPolicy;
        may(&caller, action, |wish| wish.on_bucket(&closed))
    };
    assert!(mends(root('1')) && !mends(member('1', &[])));
}

#[test]
fn who_may_write_may_give_the_buckets_owner_everything_and_nobody_else_anything() {
    let statement = |effect: &str, action: &str| {
        format!(r#"{{"Effect":"{effect}","Principal":"*","Action":"s3:{action}","Resource":"*"}}"#)
    };
    let bucket = |more: &str| {
        let writes = statement("Allow", "PutObject");
        with_policy("private", &format!(r#"{{"Statement":[{writes}{more}]}}"#))
    };
    let key = Key::parse("key").unwrap();
    let gives = |writer: char, acl: &str, bucket: &Bucket| {
        let acl = Canned::parse(acl).unwrap();
        let acl = acl.resolve(&account(writer), &bucket.owner);
        may(&member(writer, &[WRITES]), Action::PutObject, |wish| {
            wish.on_list(&acl, bucket, &key)
        })
    };
    let plain = bucket("");
    assert!(gives('2', "bucket-owner-full-control", &plain));
    for acl in ["private", "bucket-owner-read", "public-read"] {
        assert!(!gives('2', acl, &plain), "{acl}");
    }
    let own = gives('1', "bucket-owner-full-control", &plain);
    assert!(!own, "the owner's own users want the right");

    let denied = bucket(&format!(",{}", statement("Deny", "PutObjectAcl")));
    assert!(!gives('2', "bucket-owner-full-control", &denied));
    let lists = bucket(&format!(",{}", statement("Allow", "PutObjectAcl")));
    assert!(
        !gives('2', "public-read", &lists),
        "its own account does not let it"
    );
}

/// A user's policy that lets it write.
const WRITES: &str = r#"{"Statement":{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}}"#;

#[test]
fn a_condition_looks_at_tags_that_are_there() {
    let tagged = r#"{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3:GetObject",
        "Resource":"arn:aws:s3:::bucket/*",
        "Condition":{"StringEquals":{"s3:ExistingObjectTag/public":"yes"}}}}"#;
    let bucket = with_policy("private", tagged);
    let gets = |tags: &str| {
        let mut object = object('1', "private");
        object.tags = Tags::parse(tags).unwrap();
        may(&Caller::anonymous(), Action::GetObject, |wish| {
            wish.on_object(&bucket, &object, false)
        })
    };
    assert!(gets("public=yes") && !gets("public=no") && !gets(""));
}

#[test]
fn lists_count_as_far_as_the_bucket_lets_them() {
    let mut bucket = bucket("public-read");
    let lists = |bucket: &Bucket| {
        may(&Caller::anonymous(), Action::ListObjects, |wish| {
            wish.on_bucket(bucket)
        })
    };
    assert!(lists(&bucket));
    bucket.settings.public_access_block = Some(PublicAccessBlock {
        ignore_acls: true,
        ..PublicAccessBlock::default()
    });
    assert!(!lists(&bucket));
    bucket.settings.public_access_block = None;
    bucket.settings.ownership = Some(Ownership::BucketOwnerEnforced);
    assert!(!lists(&bucket));
}
