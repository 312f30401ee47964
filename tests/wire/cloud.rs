//! A cloud controller on free ports of the loopback, and one request to it.

use std::net::SocketAddr;

use clc::{
    config::Config,
    init::{Choices, Credentials, init},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A running cloud controller, freshly made.
pub(crate) struct Cloud {
    pub(crate) address: SocketAddr,
    pub(crate) credentials: Credentials,
    pub(crate) context: daemon::Context,
    _folder: TempDir,
}

impl Cloud {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config {
            state_dir: folder.path().to_owned(),
            ..Config::default()
        };
        config.api.listen = testkit::ports::free();
        config.control.listen = testkit::ports::free();
        let address = config.api.listen;
        let credentials = init(&config, &Choices::default()).await.unwrap();
        let context = daemon::Context::new("clc", "0", folder.path());
        clc::serve(config, context.clone()).await.unwrap();
        Self {
            address,
            credentials,
            context,
            _folder: folder,
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.context.clock.now_ms()
    }

    pub(crate) fn access_key(&self) -> &str {
        self.credentials.access_key_id.as_str()
    }

    pub(crate) fn secret(&self) -> &str {
        self.credentials.secret_access_key.reveal()
    }

    /// Sends bytes on a connection of their own; gives status and body.
    pub(crate) async fn send(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        self.context.cancel.cancel();
    }
}

/// What an answer must hold: `name` an element, empty or not; `name=text` one with that text.
pub(crate) fn check(what: &str, body: &str, expected: &[&str]) {
    assert!(
        !body.contains(">\n") && !body.contains("> "),
        "{what}: white space in {body}"
    );
    for element in expected {
        let holds = match element.split_once('=') {
            Some((name, text)) => body.contains(&format!("<{name}>{text}</{name}>")),
            None => {
                body.contains(&format!("<{element}>")) || body.contains(&format!("<{element}/>"))
            }
        };
        assert!(holds, "{what}: no {element} in {body}");
    }
}
