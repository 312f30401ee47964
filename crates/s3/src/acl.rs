//! Access lists: canned ones by name, explicit ones as grants. A list never denies; whoever it
//! does not mention has nothing. The owner is no part of the list's power: Walrus always lets the
//! owner read and write the list itself.
//!
//! Clients know an account by its canonical id (64 hex digits); we keep account numbers. [`People`]
//! is who knows both.

use serde::{Deserialize, Serialize};
use types::AccountId;

use crate::{Code, Error, Result};

/// The most grants in one list (S3 user guide, "Access control list overview").
pub const MAX_GRANTS: usize = 100;

/// How an account is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The canonical id.
    pub id: String,
    /// The account's name.
    pub name: String,
}

/// Who is who.
pub trait People {
    /// How an account is shown.
    fn person(&self, account: &AccountId) -> Person;
    /// The account with that canonical id.
    fn find_account(&self, id: &str) -> Option<AccountId>;
}

/// Who is granted something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grantee {
    /// One account.
    Account(AccountId),
    /// Everyone, signed or not.
    AllUsers,
    /// Every account of this cloud.
    AuthenticatedUsers,
    /// Whoever writes access logs.
    LogDelivery,
}

impl Grantee {
    const GROUPS: [(Self, &'static str); 3] = [
        (
            Self::AllUsers,
            "http://acs.amazonaws.com/groups/global/AllUsers",
        ),
        (
            Self::AuthenticatedUsers,
            "http://acs.amazonaws.com/groups/global/AuthenticatedUsers",
        ),
        (
            Self::LogDelivery,
            "http://acs.amazonaws.com/groups/s3/LogDelivery",
        ),
    ];

    /// The group's address, `None` for an account.
    pub fn group_uri(&self) -> Option<&'static str> {
        Self::GROUPS
            .iter()
            .find(|(group, _)| group == self)
            .map(|(_, uri)| *uri)
    }

    /// A group by its address.
    pub fn from_group_uri(uri: &str) -> Result<Self> {
        let known = Self::GROUPS.into_iter().find(|(_, known)| *known == uri);
        known
            .map(|(group, _)| group)
            .ok_or_else(|| Error::invalid_argument("Group/URI", uri, "Invalid group uri"))
    }

    fn covers(&self, who: Option<&AccountId>) -> bool {
        match (self, who) {
            (Self::AllUsers, _) | (Self::AuthenticatedUsers, Some(_)) => true,
            (Self::Account(account), Some(who)) => account == who,
            (Self::AuthenticatedUsers | Self::Account(_), None) | (Self::LogDelivery, _) => false,
        }
    }
}

/// What is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Permission {
    /// List a bucket; read an object.
    Read,
    /// Make, overwrite and delete objects of a bucket.
    Write,
    /// Read the list.
    ReadAcp,
    /// Write the list.
    WriteAcp,
    /// All four.
    FullControl,
}

impl Permission {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Read, "READ", "x-amz-grant-read"),
        (Self::Write, "WRITE", "x-amz-grant-write"),
        (Self::ReadAcp, "READ_ACP", "x-amz-grant-read-acp"),
        (Self::WriteAcp, "WRITE_ACP", "x-amz-grant-write-acp"),
        (
            Self::FullControl,
            "FULL_CONTROL",
            "x-amz-grant-full-control",
        ),
    ];

    /// The word in the document.
    pub fn as_str(self) -> &'static str {
        let row = Self::ALL.iter().find(|(known, ..)| *known == self);
        row.expect("the table has every permission").1
    }

    /// Reads the word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|(_, word, _)| *word == text)
            .map(|(known, ..)| known)
    }

    /// The permission and the header that grants it.
    pub fn headers() -> impl Iterator<Item = (Self, &'static str)> {
        Self::ALL
            .into_iter()
            .map(|(permission, _, header)| (permission, header))
    }
}

/// One line of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// To whom.
    pub grantee: Grantee,
    /// What.
    pub permission: Permission,
}

/// A list as it is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acl(pub Vec<Grant>);

impl Acl {
    /// Whether `who` (nobody, if the request is anonymous) has the permission.
    pub fn allows(&self, who: Option<&AccountId>, asked: Permission) -> bool {
        let gives = |had| had == asked || had == Permission::FullControl;
        self.0
            .iter()
            .any(|grant| gives(grant.permission) && grant.grantee.covers(who))
    }

    /// Whether it grants something to everyone, or to every account of this cloud.
    pub fn is_public(&self) -> bool {
        let wide = [Grantee::AllUsers, Grantee::AuthenticatedUsers];
        self.0.iter().any(|grant| wide.contains(&grant.grantee))
    }

    /// Whether it gives the bucket's owner everything, and nobody but the owner and the writer
    /// anything.
    pub fn favours_only(&self, bucket_owner: &AccountId, writer: Option<&AccountId>) -> bool {
        let is_either = |grant: &Grant| match &grant.grantee {
            Grantee::Account(account) => account == bucket_owner || Some(account) == writer,
            _ => false,
        };
        self.allows(Some(bucket_owner), Permission::FullControl) && self.0.iter().all(is_either)
    }

    /// What it grants to groups.
    #[must_use]
    pub fn only_groups(&self) -> Self {
        self.filtered(|grant| grant.grantee.group_uri().is_some())
    }

    /// What it grants to accounts.
    #[must_use]
    pub fn without_groups(&self) -> Self {
        self.filtered(|grant| grant.grantee.group_uri().is_none())
    }

    fn filtered(&self, keep: impl Fn(&Grant) -> bool) -> Self {
        Self(self.0.iter().filter(|grant| keep(grant)).cloned().collect())
    }
}

/// The lists that have names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are S3's and Eucalyptus's")]
pub enum Canned {
    Private,
    PublicRead,
    PublicReadWrite,
    AuthenticatedRead,
    BucketOwnerRead,
    BucketOwnerFullControl,
    LogDeliveryWrite,
    AwsExecRead,
    Ec2BundleRead,
}

impl Canned {
    const ALL: [(Self, &'static str); 9] = [
        (Self::Private, "private"),
        (Self::PublicRead, "public-read"),
        (Self::PublicReadWrite, "public-read-write"),
        (Self::AuthenticatedRead, "authenticated-read"),
        (Self::BucketOwnerRead, "bucket-owner-read"),
        (Self::BucketOwnerFullControl, "bucket-owner-full-control"),
        (Self::LogDeliveryWrite, "log-delivery-write"),
        (Self::AwsExecRead, "aws-exec-read"),
        (Self::Ec2BundleRead, "ec2-bundle-read"),
    ];

    /// Reads the value of `x-amz-acl`.
    pub fn parse(text: &str) -> Result<Self> {
        let known = Self::ALL
            .into_iter()
            .find(|(_, name)| *name == text)
            .map(|(known, _)| known);
        known.ok_or_else(|| Error::invalid_argument("x-amz-acl", text, "Invalid canned acl"))
    }

    /// The name of the list.
    pub fn as_str(self) -> &'static str {
        let row = Self::ALL.iter().find(|(known, _)| *known == self);
        row.expect("the table has every canned list").1
    }

    /// The list for a thing of `owner`, in a bucket of `bucket_owner`.
    pub fn resolve(self, owner: &AccountId, bucket_owner: &AccountId) -> Acl {
        let own = Grantee::Account(owner.clone());
        let others = self
            .grants(bucket_owner)
            .into_iter()
            .filter(|(who, _)| *who != own);
        let all = [(own.clone(), Permission::FullControl)]
            .into_iter()
            .chain(others);

        let line = |(grantee, permission)| Grant {
            grantee,
            permission,
        };
        Acl(all.map(line).collect())
    }

    /// The grants that the name stands for. The cloud's own account is whom `aws-exec-read` and
    /// `ec2-bundle-read` mean: it fetches bundles for the nodes.
    fn grants(self, bucket_owner: &AccountId) -> Vec<(Grantee, Permission)> {
        let bucket_owner = || Grantee::Account(bucket_owner.clone());
        match self {
            Self::Private => vec![],
            Self::PublicRead => vec![(Grantee::AllUsers, Permission::Read)],
            Self::PublicReadWrite => vec![
                (Grantee::AllUsers, Permission::Read),
                (Grantee::AllUsers, Permission::Write),
            ],
            Self::AuthenticatedRead => vec![(Grantee::AuthenticatedUsers, Permission::Read)],
            Self::BucketOwnerRead => vec![(bucket_owner(), Permission::Read)],
            Self::BucketOwnerFullControl => vec![(bucket_owner(), Permission::FullControl)],
            Self::LogDeliveryWrite => vec![
                (Grantee::LogDelivery, Permission::Write),
                (Grantee::LogDelivery, Permission::ReadAcp),
            ],
            Self::AwsExecRead | Self::Ec2BundleRead => {
                vec![(Grantee::Account(AccountId::system()), Permission::Read)]
            }
        }
    }
}

/// A list as a writer asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AclWish {
    /// By name.
    Canned(Canned),
    /// Grant by grant, from headers or a document.
    Explicit(Vec<GrantWish>),
}

/// A grant as a client writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantWish {
    /// To whom.
    pub grantee: GranteeName,
    /// What.
    pub permission: Permission,
}

/// A grantee as a client writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GranteeName {
    /// A canonical id; an account number will do.
    Id(String),
    /// A group.
    Group(Grantee),
}

impl GrantWish {
    fn resolve(&self, people: &dyn People) -> Result<Grant> {
        let grantee = match &self.grantee {
            GranteeName::Group(group) => group.clone(),
            GranteeName::Id(id) => {
                let account = people.find_account(id).or_else(|| id.parse().ok());
                let unknown = || Error::invalid_argument("CanonicalUser/ID", id, "Invalid id");
                Grantee::Account(account.ok_or_else(unknown)?)
            }
        };
        Ok(Grant {
            grantee,
            permission: self.permission,
        })
    }
}

impl Default for AclWish {
    fn default() -> Self {
        Self::Canned(Canned::Private)
    }
}

impl AclWish {
    /// The list for a thing of `owner`, in a bucket of `bucket_owner`.
    pub fn resolve(
        &self,
        owner: &AccountId,
        bucket_owner: &AccountId,
        people: &dyn People,
    ) -> Result<Acl> {
        match self {
            Self::Canned(canned) => Ok(canned.resolve(owner, bucket_owner)),
            Self::Explicit(grants) if grants.len() > MAX_GRANTS => Err(Error::new(
                Code::MalformedACLError,
                "A list has at most 100 grants.",
            )),
            Self::Explicit(grants) => {
                let grants = grants.iter().map(|grant| grant.resolve(people));
                Ok(Acl(grants.collect::<Result<_>>()?))
            }
        }
    }
}

/// Reads one `x-amz-grant-…` header: `id="…", uri="…"`.
pub fn parse_grant_header(permission: Permission, header: &str) -> Result<Vec<GrantWish>> {
    let grants = header.split(',').map(|part| {
        let bad = || Error::invalid_argument("x-amz-grant", part, "Argument format not recognized");
        let (kind, value) = part.split_once('=').ok_or_else(bad)?;
        let value = value.trim().trim_matches('"');
        let grantee = match kind.trim().to_ascii_lowercase().as_str() {
            "id" => GranteeName::Id(value.to_owned()),
            "uri" => GranteeName::Group(Grantee::from_group_uri(value)?),
            "emailaddress" => return Err(Code::UnresolvableGrantByEmailAddress.into()),
            _ => return Err(bad()),
        };
        Ok(GrantWish {
            grantee,
            permission,
        })
    });
    grants.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(digit: char) -> AccountId {
        digit.to_string().repeat(12).parse().unwrap()
    }

    #[test]
    fn a_canned_list_grants_what_its_name_says() {
        let (owner, other) = (account('1'), account('2'));
        let check = |name: &str, who: Option<&AccountId>, asked, expect| {
            let acl = Canned::parse(name).unwrap().resolve(&owner, &owner);
            assert_eq!(acl.allows(who, asked), expect, "{name} {asked:?}");
        };
        check("private", Some(&other), Permission::Read, false);
        check("private", Some(&owner), Permission::WriteAcp, true);
        check("public-read", None, Permission::Read, true);
        check("public-read", None, Permission::Write, false);
        check("public-read-write", None, Permission::Write, true);
        check("authenticated-read", None, Permission::Read, false);
        check("authenticated-read", Some(&other), Permission::Read, true);
        for bundle in ["aws-exec-read", "ec2-bundle-read"] {
            check(bundle, Some(&AccountId::system()), Permission::Read, true);
            check(bundle, Some(&other), Permission::Read, false);
        }
        assert!(Canned::parse("friendly").is_err());
    }

    struct Nobody;

    impl People for Nobody {
        fn person(&self, account: &AccountId) -> Person {
            Person {
                id: account.to_string(),
                name: String::new(),
            }
        }
        fn find_account(&self, id: &str) -> Option<AccountId> {
            (id == "abcd").then(|| account('2'))
        }
    }

    #[test]
    fn grant_headers_name_accounts_and_groups() {
        let header = "id=\"abcd\", uri=http://acs.amazonaws.com/groups/global/AllUsers";
        let wish = AclWish::Explicit(parse_grant_header(Permission::Read, header).unwrap());
        let acl = wish.resolve(&account('1'), &account('1'), &Nobody).unwrap();
        assert_eq!(acl.0[0].grantee, Grantee::Account(account('2')));
        assert_eq!(acl.0[1].grantee, Grantee::AllUsers);

        for bad in ["id", "uri=http://x", "emailAddress=a@b", "what=1"] {
            assert!(parse_grant_header(Permission::Read, bad).is_err(), "{bad}");
        }
        let wish = AclWish::Explicit(parse_grant_header(Permission::Read, "id=bob").unwrap());
        assert!(wish.resolve(&account('1'), &account('1'), &Nobody).is_err());
    }
}
