//! Where the other store is, and with which key it is spoken to.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use http::Uri;
use types::Secret;

/// The other store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `http://HOST:PORT` or `https://HOST`, perhaps with a path.
    pub url: String,
    /// Its bucket.
    pub bucket: String,
    /// What all keys begin with: nothing, or a text that ends in a slash.
    pub prefix: String,
    /// The region that requests are signed for.
    pub region: String,
    /// The file with the access key.
    pub credentials_file: PathBuf,
    /// Certificates that are believed at an https address; without, those of the machine.
    pub ca_file: Option<PathBuf>,
}

impl Settings {
    /// Says what cannot be right, by the name of the setting.
    pub fn check(&self) -> Result<(), String> {
        self.endpoint()?;
        if s3::BucketName::parse(&self.bucket).is_err() {
            return Err(format!(
                "blobs.bucket: {:?} is no name of a bucket",
                self.bucket
            ));
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
        let well = self.prefix.is_empty() || self.prefix.ends_with('/');
        if !well || self.prefix.starts_with('/') || !self.prefix.bytes().all(plain) {
            return Err(
                "blobs.prefix is empty or ends in a slash, and has letters, digits, dots, dashes \
                 and slashes only"
                    .to_owned(),
            );
        }
        if self.region.is_empty() {
            return Err("blobs.region must not be empty".to_owned());
        }
        Credentials::read(&self.credentials_file)?;
        match &self.ca_file {
            Some(file) if !file.exists() => {
                Err(format!("blobs.ca_file: {} is not there", file.display()))
            }
            _ => Ok(()),
        }
    }

    /// The address in its parts.
    pub(super) fn endpoint(&self) -> Result<Endpoint, String> {
        let wrong =
            |why: &str| format!("blobs.url: {:?} is no address of a store: {why}", self.url);
        let uri: Uri = self.url.parse().map_err(|_| wrong("it does not parse"))?;
        let scheme = uri.scheme_str().unwrap_or_default();
        if !matches!(scheme, "http" | "https") {
            return Err(wrong("it begins with http:// or https://"));
        }
        let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err("blobs.url: a key stands in blobs.credentials_file, not here".to_owned());
        }
        if uri.query().is_some() {
            return Err(wrong("it has a query"));
        }
        Ok(Endpoint {
            scheme: scheme.to_owned(),
            authority: authority.to_string(),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// An address: where requests go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) scheme: String,
    pub(super) authority: String,
    pub(super) path: String,
}

/// An access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) access_key: String,
    pub(super) secret: Secret<String>,
    pub(super) session_token: Option<Secret<String>>,
}

impl Credentials {
    /// Reads a file as the aws CLI keeps it: `aws_access_key_id = …`, `aws_secret_access_key = …`,
    /// perhaps `aws_session_token = …`, below `[default]` or below nothing.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let wrong = |why: &str| format!("blobs.credentials_file: {}: {why}", path.display());
        let metadata = path.metadata().map_err(|error| wrong(&error.to_string()))?;
        if metadata.permissions().mode() & 0o007 != 0 {
            return Err(wrong("everybody may read it; chmod o= it"));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
        Self::parse(&text).map_err(|why| wrong(&why))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut found = [None, None, None];
        const NAMES: [&str; 3] = [
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
        ];
        let lines = text.lines().map(str::trim).enumerate();
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with(['#', ';']));
        for (at, line) in lines {
            if line == "[default]" {
                continue;
            }
            // The line itself may be half a secret: it is named by its number.
            let unknown = || format!("line {} is none of {}", at + 1, NAMES.join(", "));
            let (name, value) = line.split_once('=').ok_or_else(unknown)?;
            let place = NAMES.iter().position(|known| *known == name.trim());
            found[place.ok_or_else(unknown)?] = Some(value.trim().to_owned());
        }
        let [access_key, secret, session_token] = found;
        let missing = |name: &str| format!("{name} is missing");
        Ok(Self {
            access_key: access_key.ok_or_else(|| missing(NAMES[0]))?,
            secret: Secret::new(secret.ok_or_else(|| missing(NAMES[1]))?),
            session_token: session_token.map(Secret::new),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str, prefix: &str, credentials: &Path) -> Settings {
        Settings {
            url: url.into(),
            bucket: "large".into(),
            prefix: prefix.into(),
            region: "us-east-1".into(),
            credentials_file: credentials.to_owned(),
            ca_file: None,
        }
    }

    #[test]
    fn a_file_of_the_aws_cli_is_read_and_nothing_of_it_is_ever_told() {
        let text =
            "# the store\n[default]\naws_access_key_id = AKIA1\naws_secret_access_key=s3cr3t=\n";
        let read = Credentials::parse(text).unwrap();
        assert_eq!(
            (read.access_key.as_str(), &**read.secret.reveal()),
            ("AKIA1", "s3cr3t=")
        );
        assert!(!format!("{read:?}").contains("s3cr3t"));
        for (text, why) in [
            ("aws_access_key_id = a", "aws_secret_access_key is missing"),
            ("[default]\nsecret s3cr3t", "line 2 is none of"),
            ("aws_secret = s3cr3t", "line 1 is none of"),
        ] {
            let error = Credentials::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("s3cr3t"), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_right_is_named_by_its_setting() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "aws_access_key_id=a\naws_secret_access_key=b\n").unwrap();
        let mode = |mode| std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        mode(0o640);
        for url in ["http://127.0.0.1:7480", "https://rgw.example/s3/"] {
            settings(url, "blobs/", &file).check().unwrap();
        }
        for (url, prefix, why) in [
            ("ftp://h", "", "blobs.url"),
            ("h:80", "", "blobs.url"),
            ("http://key:secret@h", "", "blobs.credentials_file"),
            ("http://h/?a=b", "", "blobs.url"),
            ("http://h", "blobs", "blobs.prefix"),
            ("http://h", "a b/", "blobs.prefix"),
        ] {
            let error = settings(url, prefix, &file).check().unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        mode(0o644);
        let error = settings("http://h", "", &file).check().unwrap_err();
        assert!(error.contains("everybody may read it"), "{error}");
        let error = settings("http://h", "", Path::new("/none"))
            .check()
            .unwrap_err();
        assert!(error.contains("blobs.credentials_file: /none"), "{error}");
    }
}
