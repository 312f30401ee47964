//! The load: connections that are kept, a thread each, requests signed before the clock starts, so
//! that the client costs as little as it can.

use std::{
    io::{IoSlice, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Barrier},
    time::{Duration, Instant},
};

/// One kind of load.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) method: &'static str,
    pub(crate) size: usize,
    pub(crate) connections: usize,
    /// Objects that each connection writes or reads in turn.
    pub(crate) keys: usize,
}

/// What is measured, in the order in which it is: what is read was written before.
pub(crate) fn cases() -> [Case; 8] {
    let case = |name, method, size, connections, keys| Case {
        name,
        method,
        size,
        connections,
        keys,
    };
    [
        case("PUT 4 KiB, 1 connection", "PUT", 4 << 10, 1, 1000),
        case("PUT 4 KiB, 16 connections", "PUT", 4 << 10, 16, 500),
        case("GET 4 KiB, 1 connection", "GET", 4 << 10, 1, 100),
        case("GET 4 KiB, 16 connections", "GET", 4 << 10, 16, 50),
        case("PUT 64 MiB, 1 connection", "PUT", 64 << 20, 1, 4),
        case("PUT 64 MiB, 4 connections", "PUT", 64 << 20, 4, 1),
        case("GET 64 MiB, 1 connection", "GET", 64 << 20, 1, 4),
        case("GET 64 MiB, 4 connections", "GET", 64 << 20, 4, 1),
    ]
}

/// One request, ready to be sent.
pub(crate) struct Request {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Arc<Vec<u8>>,
}

/// What came of a load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) per_s: f64,
    pub(crate) mb_s: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// The servers' processor time.
    pub(crate) cpu_us: f64,
    pub(crate) memory_mib: f64,
}

impl Figures {
    /// The better of two rounds in each respect.
    pub(crate) fn better_of(self, other: Self) -> Self {
        Self {
            per_s: self.per_s.max(other.per_s),
            mb_s: self.mb_s.max(other.mb_s),
            p50_ms: self.p50_ms.min(other.p50_ms),
            p99_ms: self.p99_ms.min(other.p99_ms),
            cpu_us: self.cpu_us.min(other.cpu_us),
            memory_mib: self.memory_mib.max(other.memory_mib),
        }
    }

    pub(crate) fn line(&self, nginx: Option<f64>) -> String {
        let ratio = nginx.map_or_else(String::new, |nginx| {
            format!("{:6.2}x nginx", self.per_s / nginx)
        });
        format!(
            "{:8.0}/s {:7.1} MB/s  p50 {:8.3} ms  p99 {:8.3} ms  {:9.0} us CPU  {:5.0} MiB {ratio}",
            self.per_s, self.mb_s, self.p50_ms, self.p99_ms, self.cpu_us, self.memory_mib
        )
    }
}

/// Sends each connection's requests in turn until the time is over: requests per second and how
/// long each took.
pub(crate) fn run(
    address: SocketAddr,
    requests: Vec<Vec<Request>>,
    time: Duration,
) -> (f64, Vec<Duration>) {
    let start = Arc::new(Barrier::new(requests.len() + 1));
    let threads: Vec<_> = requests
        .into_iter()
        .map(|requests| {
            let start = start.clone();
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                start.wait();
                let until = Instant::now() + time;
                let mut took = Vec::new();
                for request in requests.iter().cycle() {
                    let begun = Instant::now();
                    if begun >= until {
                        break;
                    }
                    connection.call(request);
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    start.wait();
    let begun = Instant::now();
    let took: Vec<Duration> = threads
        .into_iter()
        .flat_map(|thread| thread.join().unwrap())
        .collect();
    (took.len() as f64 / begun.elapsed().as_secs_f64(), took)
}

/// One kept connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        Self::with_buffer(address, 256 << 10)
    }

    pub(crate) fn with_buffer(address: SocketAddr, bytes: usize) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        Self {
            stream,
            buffer: vec![0; bytes],
        }
    }

    /// Sends a request and reads the whole answer.
    pub(crate) fn call(&mut self, request: &Request) {
        let mut slices = [IoSlice::new(&request.head), IoSlice::new(&request.body)];
        let mut slices = &mut slices[..];
        while !slices.is_empty() {
            let wrote = self.stream.write_vectored(slices).unwrap();
            IoSlice::advance_slices(&mut slices, wrote);
            while slices.first().is_some_and(|slice| slice.is_empty()) {
                slices = &mut slices[1..];
            }
        }

        let mut filled = 0;
        let (head, length) = loop {
            let got = self.stream.read(&mut self.buffer[filled..]).unwrap();
            assert!(got > 0, "the server hung up");
            filled += got;
            if let Some(head) = self.buffer[..filled]
                .windows(4)
                .position(|four| four == b"\r\n\r\n")
            {
                let text = String::from_utf8_lossy(&self.buffer[..head]);
                assert!(
                    text.starts_with("HTTP/1.1 2"),
                    "{text}\n{}",
                    String::from_utf8_lossy(&self.buffer[head..filled])
                );
                break (head + 4, content_length(&text));
            }
        };
        let mut left = length - (filled - head);
        while left > 0 {
            let room = left.min(self.buffer.len());
            let got = self.stream.read(&mut self.buffer[..room]).unwrap();
            assert!(got > 0, "the server hung up in a body");
            left -= got;
        }
    }
}

fn content_length(head: &str) -> usize {
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().unwrap())
    });
    length.unwrap_or(0)
}

/// As many open files as the machine lets us have: a load may be ten thousand connections.
pub(crate) fn raise_open_files() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
}
