//! A daemon's configuration: one TOML file, one struct with `#[serde(default, deny_unknown_fields)]`
//! throughout, parsed into typed values once.
//!
//! Order: defaults < file < environment (`MALLEE_CLC__API__LISTEN`) < flags (`--set api.listen=…`).
//! An unknown key is refused with the nearest match; a key is never ignored.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use toml::{Table, Value};

use crate::{
    files,
    trace::{self, Format},
};

/// Below this likeness (the share of letters that are right and in place) a suggestion would puzzle rather than help.
const LIKENESS_MIN: f64 = 0.5;
/// Keys whose text `--check` does not print.
const SECRET_WORDS: [&str; 3] = ["secret", "password", "token"];

/// A daemon's whole configuration.
pub trait Settings: Serialize + DeserializeOwned + Default + Send + 'static {
    /// `clc`: names the default file, the environment's prefix and the state folder.
    const NAME: &'static str;

    /// `state_dir`, where durable state is: database, certificates, files.
    fn state_dir(&self) -> &Path;

    /// The section `[admin]`.
    fn admin(&self) -> &Admin;

    /// The section `[log]`.
    fn log(&self) -> &Log;

    /// Rules that no single field can tell. Says which key is wrong.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The default `state_dir` of the daemon of this name.
pub fn default_state_dir(name: &str) -> PathBuf {
    Path::new("/var/lib/mallee").join(name)
}

/// The section `[admin]`: the listener of `/healthz`, `/readyz`, `/metrics`, `/tasks`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Its address; plain HTTP, so the loopback or a network of operators.
    pub listen: SocketAddr,
}

impl Admin {
    /// On that port of the loopback.
    pub fn on_port(port: u16) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Self::on_port(0)
    }
}

/// The section `[log]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// What is logged: `info`, `debug`, `info,clc::api=debug`.
    pub filter: String,
    /// How lines look: `auto` (for people on a terminal, else JSON), `human`, `json`.
    pub format: Format,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: Format::Auto,
        }
    }
}

/// A configuration that cannot be used, in words for whoever wrote it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file that was asked for cannot be read.
    #[error(transparent)]
    File(#[from] files::Error),
    /// A source has an unknown key, a wrong type, or is no TOML.
    #[error("{place}: {reason}")]
    Wrong {
        /// The file, variable or flag.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where values come from, besides the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file; it must exist if it is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: Vec<(String, String)>,
    /// `key.path=value` from the command line.
    pub sets: Vec<String>,
}

impl Sources {
    /// The file's path when none is given, `/etc/mallee/NAME.toml`.
    pub fn default_file(name: &str) -> PathBuf {
        Path::new("/etc/mallee").join(name).with_extension("toml")
    }

    /// The process's environment, as far as it is meant for this daemon.
    #[allow(clippy::disallowed_methods)] // the one place that reads the environment
    pub fn environment(name: &str) -> Vec<(String, String)> {
        let prefix = env_prefix(name);
        std::env::vars()
            .filter(|(key, _)| key.starts_with(&prefix))
            .collect()
    }
}

/// Reads and merges everything, and checks it.
pub fn load<S: Settings>(sources: &Sources) -> Result<S, Error> {
    let mut merged = Table::try_from(S::default()).map_err(|error| wrong("defaults", error))?;
    if let Some(path) = &sources.file {
        let place = path.display().to_string();
        let text = files::read_text(path)?;
        // Parsed as settings first, only for the message: it shows the line and the column.
        toml::from_str::<S>(&text).map_err(|error| wrong(&place, error))?;
        merge(
            &mut merged,
            toml::from_str(&text).map_err(|error| wrong(&place, error))?,
        );
    }
    for (name, value) in &sources.env {
        let path = name
            .strip_prefix(&env_prefix(S::NAME))
            .unwrap_or(name)
            .to_lowercase();
        set::<S>(&mut merged, name, &path.replace("__", "."), value)?;
    }
    for given in &sources.sets {
        let place = format!("--set {given}");
        let (path, value) = given
            .split_once('=')
            .ok_or_else(|| wrong(&place, "expected KEY.PATH=VALUE"))?;
        set::<S>(&mut merged, &place, path, value)?;
    }
    let settings: S = merged
        .try_into()
        .map_err(|error| wrong("configuration", error))?;
    trace::check(&settings.log().filter).map_err(|error| wrong("log.filter", error))?;
    settings
        .check()
        .map_err(|reason| wrong("configuration", reason))?;
    Ok(settings)
}

/// The settings as TOML, secrets masked: what `--check` prints.
pub fn show<S: Settings>(settings: &S) -> String {
    let mut table = Table::try_from(settings).unwrap_or_default();
    mask(&mut table);
    toml::to_string_pretty(&table).unwrap_or_default()
}

/// Puts one value in its place and parses all again, so that the message names the culprit.
fn set<S: Settings>(merged: &mut Table, place: &str, path: &str, text: &str) -> Result<(), Error> {
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut table = &mut *merged;
    for key in keys {
        table = table
            .entry(key)
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| wrong(place, format!("{key} is no section")))?;
    }
    let value = value_like(table.get(last), text);
    table.insert(last.to_owned(), value);
    merged
        .clone()
        .try_into::<S>()
        .map(drop)
        .map_err(|error| wrong(place, error))
}

/// Text stays text where text was; elsewhere it is read as a TOML value if it is one.
fn value_like(before: Option<&Value>, text: &str) -> Value {
    if matches!(before, Some(Value::String(_))) {
        return Value::String(text.to_owned());
    }
    toml::from_str::<Table>(&format!("v = {text}"))
        .ok()
        .and_then(|mut table| table.remove("v"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn merge(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

fn mask(table: &mut Table) {
    for (key, value) in table.iter_mut() {
        let is_secret = SECRET_WORDS.iter().any(|word| key.ends_with(word));
        match value {
            Value::Table(inner) => mask(inner),
            Value::Array(items) => items
                .iter_mut()
                .filter_map(Value::as_table_mut)
                .for_each(mask),
            value if is_secret => *value = Value::String("********".to_owned()),
            _ => {}
        }
    }
}

fn env_prefix(name: &str) -> String {
    format!("MALLEE_{}__", name.to_uppercase())
}

fn wrong(place: &str, reason: impl ToString) -> Error {
    let reason = reason.to_string();
    let hint = nearest(&reason)
        .map(|word| format!("did you mean `{word}`?"))
        .unwrap_or_default();
    let reason = format!("{}\n{hint}", reason.trim_end())
        .trim_end()
        .to_owned();
    Error::Wrong {
        place: place.to_owned(),
        reason,
    }
}

/// serde says "unknown field `lisen`, expected one of `listen`, `state`"; the likeliest of those.
fn nearest(message: &str) -> Option<&str> {
    let words = message
        .split_once("unknown field")
        .or_else(|| message.split_once("unknown variant"))?
        .1;
    let mut quoted = words.split('`').skip(1).step_by(2);
    let given = quoted.next()?;
    quoted
        .map(|word| (strsim::normalized_damerau_levenshtein(given, word), word))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Example {
        state_dir: PathBuf,
        admin: Admin,
        log: Log,
        api: Api,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Api {
        listen: SocketAddr,
        workers: u32,
        banner: String,
        admin_password: String,
        peers: Vec<String>,
    }

    impl Default for Example {
        fn default() -> Self {
            Self {
                state_dir: default_state_dir("ex"),
                admin: Admin::on_port(9000),
                log: Log::default(),
                api: Api::default(),
            }
        }
    }

    impl Default for Api {
        fn default() -> Self {
            Self {
                listen: "127.0.0.1:1".parse().unwrap(),
                workers: 4,
                banner: String::new(),
                admin_password: "hunter2".to_owned(),
                peers: vec![],
            }
        }
    }

    impl Settings for Example {
        const NAME: &'static str = "ex";
        fn state_dir(&self) -> &Path {
            &self.state_dir
        }
        fn admin(&self) -> &Admin {
            &self.admin
        }
        fn log(&self) -> &Log {
            &self.log
        }
        fn check(&self) -> Result<(), String> {
            if self.api.workers == 0 {
                Err("api.workers must not be 0".to_owned())
            } else {
                Ok(())
            }
        }
    }

    fn with(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Example, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ex.toml");
        std::fs::write(&path, file).unwrap();
        let sources = Sources {
            file: Some(path),
            env: env
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            sets: sets.iter().map(|s| (*s).to_owned()).collect(),
        };
        load::<Example>(&sources).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_win_over_environment_over_file_over_defaults() {
        let file = "[api]\nworkers = 5\nlisten = '127.0.0.1:2'\nbanner = 'file'\n";
        let env = [
            ("MALLEE_EX__API__LISTEN", "127.0.0.1:3"),
            ("MALLEE_EX__API__BANNER", "17"),
        ];
        let got = with(file, &env, &["api.banner=flag", "api.peers=['a','b']"]).unwrap();
        assert_eq!(got.api.workers, 5);
        assert_eq!(got.api.listen, "127.0.0.1:3".parse().unwrap());
        assert_eq!(got.api.banner, "flag");
        assert_eq!(got.api.peers, ["a", "b"]);
        assert_eq!(got.state_dir, Path::new("/var/lib/mallee/ex"));
    }

    #[test]
    fn text_from_the_environment_stays_text_even_when_it_looks_like_a_number() {
        assert_eq!(
            with("", &[("MALLEE_EX__API__BANNER", "17")], &[])
                .unwrap()
                .api
                .banner,
            "17"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_match() {
        let error = with("[api]\nlisen = '127.0.0.1:2'\n", &[], &[]).unwrap_err();
        assert!(
            error.contains("line 2") && error.contains("did you mean `listen`?"),
            "{error}"
        );
        let error = with("", &[("MALLEE_EX__API__WORKRES", "3")], &[]).unwrap_err();
        assert!(
            error.contains("MALLEE_EX__API__WORKRES") && error.contains("`workers`?"),
            "{error}"
        );
        let error = with("", &[], &["lgo.filter=debug"]).unwrap_err();
        assert!(error.contains("did you mean `log`?"), "{error}");
    }

    #[test]
    fn wrong_types_bad_filters_and_broken_rules_are_refused_where_they_are() {
        for (file, said) in [
            ("[api]\nworkers = 'many'", "line 2"),
            ("[api\n", "line 1"),
            ("[log]\nfilter = 'clc=loud'", "log.filter"),
            ("[api]\nworkers = 0", "api.workers"),
        ] {
            let error = with(file, &[], &[]).unwrap_err();
            assert!(error.contains(said), "{file}: {error}");
        }
        let gone = Sources {
            file: Some("/no/such.toml".into()),
            ..Sources::default()
        };
        assert!(
            load::<Example>(&gone)
                .unwrap_err()
                .to_string()
                .contains("/no/such.toml")
        );
    }

    #[test]
    fn what_is_shown_reads_back_and_hides_secrets() {
        let shown = show(&Example::default());
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(
            with(&shown, &[], &["api.admin_password=hunter2"]).unwrap(),
            Example::default()
        );
    }
}
