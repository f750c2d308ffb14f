//! Rank tables: the JSON file that lists servers, devices and ranks, and how ranks that only share it find the root.
//!
//! Knows the file's format; it must not know communicators.

use super::meeting::{ROOT_INFO, Root};
use super::result::{OPEN_FILE_FAILURE, TIMEOUT, UNAVAIL, wrong};
use crate::failure::Failure;
use serde_json::Value;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

/// What a communicator needs of a rank table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RankTable {
    /// The device of each rank.
    pub devices: Vec<u32>,
    /// Equal on all ranks that read the same table.
    fingerprint: u64,
}

impl RankTable {
    pub fn read(path: &str) -> Result<RankTable, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            Failure::new(OPEN_FILE_FAILURE, format!("rank table {path}: {error}"))
        })?;
        RankTable::parse(&text).map_err(|why| wrong(format!("EI0004: rank table {path}: {why}")))
    }

    fn parse(text: &str) -> Result<RankTable, String> {
        let table: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if table.get("status").and_then(Value::as_str) != Some("completed") {
            return Err(String::from("status is not `completed`"));
        }
        let servers = table
            .get("server_list")
            .and_then(Value::as_array)
            .ok_or("it has no server_list")?;
        let mut devices = Vec::new();
        for device in servers
            .iter()
            .filter_map(|server| server.get("device")?.as_array())
            .flatten()
        {
            let number = |key: &str| {
                let value = device.get(key)?;
                value
                    .as_str()
                    .and_then(|text| text.parse::<u32>().ok())
                    .or_else(|| value.as_u64().and_then(|number| u32::try_from(number).ok()))
            };
            let (Some(rank), Some(id)) = (number("rank_id"), number("device_id")) else {
                return Err(String::from("a device has no rank_id or device_id"));
            };
            devices.push((rank, id));
        }
        devices.sort_unstable();
        let complete = devices
            .iter()
            .zip(0..)
            .all(|((rank, _), wanted)| *rank == wanted);
        if devices.is_empty() || !complete {
            return Err(String::from("rank_ids are not 0, 1, 2 and so on"));
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Ok(RankTable {
            devices: devices.into_iter().map(|(_, id)| id).collect(),
            fingerprint: hasher.finish(),
        })
    }

    /// A name in the kernel's table of sockets, not a file: it ends with its process.
    fn address(&self) -> std::io::Result<SocketAddr> {
        SocketAddr::from_abstract_name(format!("ascend-emulator-{:016x}", self.fingerprint))
    }

    /// The root of the ranks of this table: rank 0 opens it and hands it to the others.
    pub fn root(&self, rank: usize, patience: Duration) -> Result<Root, Failure> {
        if rank == 0 {
            self.give(patience)
        } else {
            self.ask(patience)
        }
    }

    fn give(&self, patience: Duration) -> Result<Root, Failure> {
        let root = Root::open(patience)?;
        let others = self.devices.len() - 1;
        if others == 0 {
            return Ok(root);
        }
        let listener =
            retry(patience, || UnixListener::bind_addr(&self.address()?)).map_err(|error| {
                Failure::new(
                    UNAVAIL,
                    format!("another job uses the same rank table: {error}"),
                )
            })?;
        let deadline = Instant::now() + patience;
        let _ = listener.set_nonblocking(true);
        let serve = move || {
            let mut left = others;
            while left > 0 && Instant::now() < deadline {
                match listener.accept() {
                    Ok((mut socket, _)) => {
                        left -= usize::from(socket.write_all(&root.write()).is_ok());
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        };
        std::thread::Builder::new()
            .name(String::from("ascend-hccl-table"))
            .spawn(serve)
            .map_err(|error| Failure::new(UNAVAIL, format!("the host gives no thread: {error}")))?;
        Ok(root)
    }

    fn ask(&self, patience: Duration) -> Result<Root, Failure> {
        let bytes = retry(patience, || {
            let mut socket = UnixStream::connect_addr(&self.address()?)?;
            let mut bytes = [0; ROOT_INFO];
            socket.read_exact(&mut bytes)?;
            Ok(bytes)
        });
        match bytes {
            Ok(bytes) => Root::read(&bytes),
            Err(_) => Err(Failure::new(
                TIMEOUT,
                format!(
                    "rank 0 of {} did not come within {patience:?}",
                    self.devices.len()
                ),
            )),
        }
    }
}

/// Tries until it works or time is out.
fn retry<T>(
    patience: Duration,
    mut attempt: impl FnMut() -> std::io::Result<T>,
) -> std::io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        match attempt() {
            Ok(made) => return Ok(made),
            Err(error) if Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_list_the_device_of_each_rank() {
        let table = RankTable::parse(
            r#"{"status": "completed", "version": "1.0", "server_count": "1", "server_list": [{"server_id": "node_0",
                "device": [{"device_id": "5", "rank_id": "1"}, {"device_id": "4", "device_ip": "10.0.0.1", "rank_id": "0"}]}]}"#,
        );
        assert_eq!(table.expect("a table").devices, [4, 5]);
    }

    #[test]
    fn broken_tables_are_refused() {
        let why = |text: &str| RankTable::parse(text).expect_err("broken");
        assert!(why("{").contains("EOF"));
        assert!(why(r#"{"status": "initializing"}"#).contains("completed"));
        let gap = r#"{"status": "completed", "server_list": [{"device": [{"device_id": "0", "rank_id": "1"}]}]}"#;
        assert!(why(gap).contains("rank_ids"));
    }
}
