//! How ranks find each other: the root listens, all register with it, and then each pair connects.
//!
//! Knows the root info and the handshake; it must not know collectives or contexts.

use super::collective::name;
use super::link::Link;
use super::result::{INTERNAL, TCP_CONNECT, TIMEOUT, wrong};
use super::wire::{self, Frame, Key, Space};
use crate::failure::Failure;
use serde_json::{Value, json};
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The bytes of a root info.
pub(crate) const ROOT_INFO: usize = 4108;
const MAGIC: &[u8; 8] = b"ASCEMUHC";
/// How much longer a rank waits than the root, so that the root's answer, which names who is missing, comes first.
const GRACE: Duration = Duration::from_secs(3);
/// How long somebody who connects may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// What a root info says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Root {
    pub port: u16,
    pub token: u64,
}

impl Root {
    /// Starts to listen; a thread answers the ranks.
    pub fn open(patience: Duration) -> Result<Root, Failure> {
        let (listener, port) = listen()?;
        let token = random();
        let root = Root { port, token };
        let served = std::thread::Builder::new()
            .name(String::from("ascend-hccl-root"))
            .spawn(move || serve(&listener, token, patience));
        match served {
            Ok(_) => Ok(root),
            Err(error) => Err(Failure::new(
                INTERNAL,
                format!("the host gives no thread: {error}"),
            )),
        }
    }

    pub fn write(self) -> [u8; ROOT_INFO] {
        let mut bytes = [0; ROOT_INFO];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&self.port.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.token.to_le_bytes());
        bytes
    }

    pub fn read(bytes: &[u8; ROOT_INFO]) -> Result<Root, Failure> {
        if &bytes[..8] != MAGIC {
            return Err(wrong(
                "rootInfo holds no root info of this library, wanted the bytes that HcclGetRootInfo wrote on one rank",
            ));
        }
        let mut token = [0; 8];
        token.copy_from_slice(&bytes[16..24]);
        Ok(Root {
            port: u16::from_le_bytes([bytes[8], bytes[9]]),
            token: u64::from_le_bytes(token),
        })
    }

    /// What the communicator is called if nobody names it.
    pub fn name(self) -> String {
        format!("127.0.0.1%lo_{}_0_{:016x}", self.port, self.token)
    }
}

/// A listener on a port that the system chooses.
fn listen() -> Result<(TcpListener, u16), Failure> {
    let bound = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener =
        bound.map_err(|error| connect_failure(format!("cannot listen on 127.0.0.1: {error}")))?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    Ok((listener, port))
}

fn connect_failure(text: String) -> Failure {
    Failure::new(TCP_CONNECT, text)
}

/// A number that no other communicator has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), Instant::now()))
}

/// Waits for somebody to connect; `None` when time is out.
fn accept(listener: &TcpListener, deadline: Option<Instant>) -> Option<TcpStream> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let milliseconds = left.map_or(-1, |left| {
            i32::try_from(left.as_millis()).unwrap_or(i32::MAX)
        });
        let mut wanted = libc::pollfd {
            fd: listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one descriptor, alive for the call.
        let ready = unsafe { libc::poll(&mut wanted, 1, milliseconds) };
        if ready > 0
            && let Ok((socket, _)) = listener.accept()
        {
            return Some(socket);
        }
        if left.is_some_and(|left| left.is_zero()) {
            return None;
        }
    }
}

fn key(token: u64) -> Key {
    Key {
        group: token,
        space: Space::Message,
        tag: 0,
        phase: 0,
    }
}

/// Reads what somebody says, if it knows the token.
fn hear(socket: &mut TcpStream, token: u64, patience: Duration) -> Option<Value> {
    let patience = patience.max(Duration::from_millis(1));
    socket.set_read_timeout(Some(patience)).ok()?;
    let Frame { key, text, .. } = wire::read(socket).ok()??;
    if key.group != token {
        return None;
    }
    serde_json::from_str(&text).ok()
}

fn say(socket: &mut TcpStream, token: u64, value: &Value) -> std::io::Result<()> {
    wire::write(socket, &key(token), &value.to_string(), &[])
}

/// A rank that registered.
struct Guest {
    socket: TcpStream,
    rank: usize,
    port: u64,
    device: (u64, u64),
}

/// The root's thread: collects all ranks and gives each the table of all, or tells all what is wrong.
fn serve(listener: &TcpListener, token: u64, patience: Duration) {
    let mut guests: Vec<Guest> = Vec::new();
    let mut ranks = 0;
    let mut deadline = None;
    let answer = loop {
        let Some(mut socket) = accept(listener, deadline) else {
            break Err((TIMEOUT, missing(&guests, ranks, patience)));
        };
        let Some(hello) = hear(&mut socket, token, HELLO) else {
            continue;
        };
        deadline = deadline.or_else(|| Instant::now().checked_add(patience));
        let number = |name: &str| hello.get(name).and_then(Value::as_u64).unwrap_or(0);
        let guest = Guest {
            socket,
            rank: number("rank") as usize,
            port: number("port"),
            device: (number("process"), number("device")),
        };
        let problem = greet(&guests, &guest, &mut ranks, number("ranks") as usize);
        guests.push(guest);
        if let Some(problem) = problem {
            break Err((wrong("").code, problem));
        }
        if guests.len() == ranks {
            guests.sort_by_key(|guest| guest.rank);
            break Ok(guests.iter().map(|guest| guest.port).collect::<Vec<u64>>());
        }
    };
    let answer = match answer {
        Ok(ports) => json!({ "ports": ports }),
        Err((code, text)) => json!({ "code": code, "text": text }),
    };
    // The own process may end as soon as it has its answer: it gets it last.
    let own = u64::from(std::process::id());
    guests.sort_by_key(|guest| guest.device.0 == own);
    for guest in &mut guests {
        let _ = say(&mut guest.socket, token, &answer);
    }
}

/// What is wrong with a guest, beside those who are there.
fn greet(guests: &[Guest], guest: &Guest, ranks: &mut usize, claimed: usize) -> Option<String> {
    if guests.is_empty() {
        *ranks = claimed;
    } else if claimed != *ranks {
        let first = guests.first().map_or(0, |guest| guest.rank);
        return Some(format!(
            "rank {} counts {claimed} ranks, rank {first} counts {ranks}",
            guest.rank
        ));
    }
    if guests.iter().any(|other| other.rank == guest.rank) {
        return Some(format!("rank {} came twice", guest.rank));
    }
    let same = guests.iter().find(|other| other.device == guest.device)?;
    Some(format!(
        "ranks {} and {} use the same device {} of one process, wanted one device each",
        same.rank, guest.rank, guest.device.1
    ))
}

fn missing(guests: &[Guest], ranks: usize, patience: Duration) -> String {
    let absent: Vec<usize> = (0..ranks)
        .filter(|rank| guests.iter().all(|guest| guest.rank != *rank))
        .collect();
    format!(
        "{} of {ranks} did not come within {patience:?}",
        name(&absent)
    )
}

/// A rank that wants to take part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seat {
    pub root: Root,
    pub ranks: usize,
    pub rank: usize,
    pub device: u32,
    pub patience: Duration,
}

impl Seat {
    /// Registers with the root, then connects with every rank.
    pub fn take(self) -> Result<Arc<Link>, Failure> {
        let deadline = Instant::now() + self.patience + GRACE;
        let (listener, port) = listen()?;
        let ports = self.register(port, deadline)?;
        let mut sockets: Vec<Option<TcpStream>> = (0..self.ranks).map(|_| None).collect();
        for (peer, &port) in ports.iter().enumerate().take(self.rank) {
            let mut socket = connect(port, deadline).map_err(|error| {
                connect_failure(format!("rank {peer} cannot be reached: {error}"))
            })?;
            say(&mut socket, self.root.token, &json!({ "rank": self.rank }))
                .map_err(|error| connect_failure(format!("rank {peer} is gone: {error}")))?;
            sockets[peer] = Some(socket);
        }
        while sockets[self.rank + 1..].iter().any(Option::is_none) {
            let Some(mut socket) = accept(&listener, Some(deadline)) else {
                let absent: Vec<usize> = (self.rank + 1..self.ranks)
                    .filter(|&peer| sockets[peer].is_none())
                    .collect();
                return Err(Failure::new(
                    TIMEOUT,
                    format!("{} registered, but did not connect", name(&absent)),
                ));
            };
            let hello = hear(&mut socket, self.root.token, HELLO);
            let peer = hello.and_then(|hello| hello.get("rank")?.as_u64());
            if let Some(place) = peer.and_then(|peer| sockets.get_mut(peer as usize)) {
                *place = Some(socket);
            }
        }
        Link::start(self.rank, sockets)
            .map_err(|error| connect_failure(format!("the sockets between ranks fail: {error}")))
    }

    fn register(self, port: u16, deadline: Instant) -> Result<Vec<u16>, Failure> {
        let mut socket = connect(self.root.port, deadline).map_err(|error| {
            connect_failure(format!(
                "the root does not listen on 127.0.0.1:{}: {error}; its process ended, or its root info was used before",
                self.root.port
            ))
        })?;
        let hello = json!({
            "ranks": self.ranks, "rank": self.rank, "port": port,
            "device": self.device, "process": std::process::id(),
        });
        say(&mut socket, self.root.token, &hello)
            .map_err(|error| connect_failure(format!("the root is gone: {error}")))?;
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(answer) = hear(&mut socket, self.root.token, left) else {
            let late = Instant::now() >= deadline;
            return Err(Failure::new(
                if late { TIMEOUT } else { TCP_CONNECT },
                if late {
                    format!("the root did not answer within {:?}", self.patience)
                } else {
                    String::from(
                        "the root closed the connection: its process ended, or its root info was used before",
                    )
                },
            ));
        };
        if let Some(ports) = answer.get("ports").and_then(Value::as_array) {
            return Ok(ports
                .iter()
                .filter_map(Value::as_u64)
                .map(|port| port as u16)
                .collect());
        }
        let code = answer.get("code").and_then(Value::as_i64).unwrap_or(0) as i32;
        let text = answer.get("text").and_then(Value::as_str).unwrap_or("?");
        Err(Failure::new(code, text.to_string()))
    }
}

fn connect(port: u16, deadline: Instant) -> std::io::Result<TcpStream> {
    let left = deadline.saturating_duration_since(Instant::now());
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    TcpStream::connect_timeout(&address.into(), left.max(Duration::from_millis(1)))
}

/// Connects several ranks of one process with each other.
pub(crate) fn connect_all(ranks: usize) -> Result<Vec<Arc<Link>>, Failure> {
    let failure =
        |error: std::io::Error| connect_failure(format!("sockets of one process fail: {error}"));
    let (listener, port) = listen()?;
    let mut sockets: Vec<Vec<Option<TcpStream>>> = (0..ranks)
        .map(|_| (0..ranks).map(|_| None).collect())
        .collect();
    let pairs = (0..ranks).flat_map(|low| (low + 1..ranks).map(move |high| (low, high)));
    for (low, high) in pairs {
        sockets[high][low] =
            Some(TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map_err(failure)?);
        sockets[low][high] = Some(listener.accept().map_err(failure)?.0);
    }
    sockets
        .into_iter()
        .enumerate()
        .map(|(rank, sockets)| Link::start(rank, sockets).map_err(failure))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_info_survives_the_trip() {
        let root = Root {
            port: 40_001,
            token: u64::MAX - 5,
        };
        assert_eq!(Root::read(&root.write()).expect("own bytes"), root);
        assert!(Root::read(&[0; ROOT_INFO]).is_err());
    }

    #[test]
    fn a_missing_rank_is_named() {
        let root = Root::open(Duration::from_millis(200)).expect("a port");
        let seat = move |rank| Seat {
            root,
            ranks: 3,
            rank,
            device: rank as u32,
            patience: Duration::from_millis(200),
        };
        let other = std::thread::spawn(move || seat(2).take().err());
        let failure = seat(0).take().err().expect("rank 1 never comes");
        assert_eq!(failure.code, TIMEOUT);
        assert!(
            failure.text.contains("rank 1 of 3 did not come"),
            "{failure}"
        );
        assert_eq!(other.join().expect("no panic"), Some(failure));
    }

    #[test]
    fn contradictions_between_ranks_are_refused() {
        let meet = |second: Seat, first: Seat| {
            let other = std::thread::spawn(move || first.take().err());
            let failure = second.take().err().expect("refused");
            other.join().expect("no panic");
            failure.text.into_owned()
        };
        let seat = |root, ranks, rank, device| Seat {
            root,
            ranks,
            rank,
            device,
            patience: Duration::from_secs(5),
        };
        let open = || Root::open(Duration::from_secs(5)).expect("a port");
        let root = open();
        assert!(meet(seat(root, 2, 0, 0), seat(root, 3, 1, 1)).contains("counts"));
        let root = open();
        assert!(meet(seat(root, 2, 1, 0), seat(root, 2, 1, 1)).contains("came twice"));
        let root = open();
        assert!(meet(seat(root, 2, 0, 3), seat(root, 2, 1, 3)).contains("same device 3"));
    }
}
