//! `AccessControlPolicy`: access lists out and in.

use types::AccountId;

use crate::{
    Code, Error, Result,
    acl::{Acl, Grant, GrantWish, Grantee, GranteeName, People, Permission, Person},
    xml::{Element, Writer},
};

/// Writes `Owner` or `Initiator`.
pub fn write_owner(xml: &mut Writer, element: &str, owner: &Person) {
    xml.nest(element, |xml| {
        xml.text("ID", &owner.id);
        xml.text("DisplayName", &owner.name);
    });
}

/// An access list for people.
pub fn write_acl(owner: &AccountId, acl: &Acl, people: &dyn People) -> String {
    Writer::document("AccessControlPolicy", |xml| {
        write_owner(xml, "Owner", &people.person(owner));
        xml.nest("AccessControlList", |xml| {
            // Groups first: the order means nothing, and some suites know only this one.
            let (groups, accounts) = (acl.only_groups(), acl.without_groups());
            for grant in groups.0.iter().chain(&accounts.0) {
                write_grant(xml, grant, people);
            }
        });
    })
}

fn write_grant(xml: &mut Writer, grant: &Grant, people: &dyn People) {
    const XSI: &str = "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=";

    xml.nest("Grant", |xml| {
        match &grant.grantee {
            Grantee::Account(account) => {
                xml.nest_with("Grantee", &format!("{XSI}\"CanonicalUser\""), |xml| {
                    let person = people.person(account);
                    xml.text("ID", person.id);
                    xml.text("DisplayName", person.name);
                });
            }
            group => {
                let uri = group.group_uri().expect("what is no account is a group");
                let xsi = format!("{XSI}\"Group\"");
                xml.nest_with("Grantee", &xsi, |xml| xml.text("URI", uri));
            }
        }
        xml.text("Permission", grant.permission.as_str());
    });
}

/// Reads the list of a PUT. The owner in it must be the owner that is, if it is there at all.
pub fn read_acl(body: &[u8], owner: &AccountId, people: &dyn People) -> Result<Vec<GrantWish>> {
    let malformed = |error: Error| match error.code {
        Code::MalformedXML => Error::new(Code::MalformedACLError, error.message),
        _ => error,
    };
    let policy = Element::read(body, "AccessControlPolicy").map_err(malformed)?;

    let named = policy
        .child("Owner")
        .and_then(|owner| owner.text_of("ID"))
        .map(str::trim);
    if named.is_some_and(|named| named != people.person(owner).id && named != owner.as_str()) {
        return Err(Code::AccessDenied.into());
    }
    let list = policy.child("AccessControlList");
    let list = list.ok_or_else(|| Error::from(Code::MalformedACLError))?;
    list.all("Grant").map(read_grant).collect()
}

fn read_grant(grant: &Element) -> Result<GrantWish> {
    let bad = || Error::from(Code::MalformedACLError);
    let permission = grant.text_of("Permission").map(str::trim);
    let permission = permission.and_then(Permission::parse).ok_or_else(bad)?;
    let grantee = grant.child("Grantee").ok_or_else(bad)?;

    let grantee = match (grantee.text_of("ID"), grantee.text_of("URI")) {
        (Some(id), _) => GranteeName::Id(id.trim().to_owned()),
        (None, Some(uri)) => GranteeName::Group(Grantee::from_group_uri(uri.trim())?),
        (None, None) if grantee.child("EmailAddress").is_some() => {
            return Err(Code::UnresolvableGrantByEmailAddress.into());
        }
        (None, None) => return Err(bad()),
    };
    Ok(GrantWish {
        grantee,
        permission,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::acl::{AclWish, Canned};

    pub(crate) struct Numbers;

    impl People for Numbers {
        fn person(&self, account: &AccountId) -> Person {
            Person {
                id: format!("id-{account}"),
                name: "alice".to_owned(),
            }
        }
        fn find_account(&self, id: &str) -> Option<AccountId> {
            id.strip_prefix("id-")?.parse().ok()
        }
    }

    #[test]
    fn a_list_goes_out_and_comes_back() {
        let owner: AccountId = "111111111111".parse().unwrap();
        for name in [
            "private",
            "public-read-write",
            "log-delivery-write",
            "aws-exec-read",
        ] {
            let acl = Canned::parse(name).unwrap().resolve(&owner, &owner);
            let text = write_acl(&owner, &acl, &Numbers);
            let back = AclWish::Explicit(read_acl(text.as_bytes(), &owner, &Numbers).unwrap());
            let back = back.resolve(&owner, &owner, &Numbers).unwrap();
            assert_eq!(back.only_groups(), acl.only_groups(), "{name}");
            assert_eq!(back.without_groups(), acl.without_groups(), "{name}");
        }
    }

    #[test]
    fn a_list_must_make_sense() {
        let owner: AccountId = "111111111111".parse().unwrap();
        let check = |body: &str, code| {
            let error = read_acl(body.as_bytes(), &owner, &Numbers).unwrap_err();
            assert_eq!(error.code, code, "{body}");
        };
        check("<AccessControlPolicy/>", Code::MalformedACLError);
        check("nonsense", Code::MalformedACLError);
        check(
            "<AccessControlPolicy><Owner><ID>id-222222222222</ID></Owner></AccessControlPolicy>",
            Code::AccessDenied,
        );
        check(
            "<AccessControlPolicy><AccessControlList><Grant><Grantee><URI>bob</URI></Grantee>\
             <Permission>READ</Permission></Grant></AccessControlList></AccessControlPolicy>",
            Code::InvalidArgument,
        );
    }
}
