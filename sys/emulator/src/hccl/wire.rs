//! Frames on a socket: a fixed head, a text and bytes.
//!
//! Knows bytes; it must not know ranks' roles or collectives.

use std::io::{self, Read, Write};
use std::net::TcpStream;

const MAGIC: u32 = 0x4843_434c;
/// No frame is longer: a head that says so was not written by a rank.
const LONGEST: u64 = 1 << 40;

/// Which counter numbered a frame, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Space {
    Collective,
    ReplayedCollective,
    Message,
    ReplayedMessage,
    Receipt,
    ReplayedReceipt,
    /// A communicator of the group broke: `text` says why, `tag` and `phase` hold its codes.
    Broken,
    /// The sender is done with the group.
    Goodbye,
}

const SPACES: [Space; 8] = [
    Space::Collective,
    Space::ReplayedCollective,
    Space::Message,
    Space::ReplayedMessage,
    Space::Receipt,
    Space::ReplayedReceipt,
    Space::Broken,
    Space::Goodbye,
];

/// What a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub group: u64,
    pub space: Space,
    pub tag: u64,
    pub phase: u32,
}

/// A frame that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub key: Key,
    pub text: String,
    pub data: Vec<u8>,
}

const HEAD: usize = 4 + 4 + 8 + 8 + 4 + 4 + 8;

pub(crate) fn write(socket: &mut TcpStream, key: &Key, text: &str, data: &[u8]) -> io::Result<()> {
    let space = SPACES
        .iter()
        .position(|space| *space == key.space)
        .unwrap_or(0);
    let mut head = Vec::with_capacity(HEAD + text.len());
    head.extend_from_slice(&MAGIC.to_le_bytes());
    head.extend_from_slice(&(space as u32).to_le_bytes());
    head.extend_from_slice(&key.group.to_le_bytes());
    head.extend_from_slice(&key.tag.to_le_bytes());
    head.extend_from_slice(&key.phase.to_le_bytes());
    head.extend_from_slice(&(text.len() as u32).to_le_bytes());
    head.extend_from_slice(&(data.len() as u64).to_le_bytes());
    head.extend_from_slice(text.as_bytes());
    socket.write_all(&head)?;
    socket.write_all(data)
}

/// Reads one frame; `None` at an orderly end.
pub(crate) fn read(socket: &mut TcpStream) -> io::Result<Option<Frame>> {
    let mut head = [0u8; HEAD];
    let first = loop {
        match socket.read(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    if first == 0 {
        return Ok(None);
    }
    socket.read_exact(&mut head[first..])?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let garbage = || io::Error::new(io::ErrorKind::InvalidData, "not a frame of a rank");
    let space = SPACES.get(word(4) as usize).copied().ok_or_else(garbage)?;
    if word(0) != MAGIC || word(28) > 1 << 20 || long(32) > LONGEST {
        return Err(garbage());
    }
    let key = Key {
        group: long(8),
        space,
        tag: long(16),
        phase: word(24),
    };
    let mut text = vec![0u8; word(28) as usize];
    socket.read_exact(&mut text)?;
    let mut data = vec![0u8; long(32) as usize];
    socket.read_exact(&mut data)?;
    Ok(Some(Frame {
        key,
        text: String::from_utf8_lossy(&text).into_owned(),
        data,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("listening");
        (near, listener.accept().expect("connected").0)
    }

    #[test]
    fn frames_come_back_as_they_went() {
        let (mut near, mut far) = pair();
        let key = Key {
            group: 1 << 40,
            space: Space::Receipt,
            tag: u64::MAX - 1,
            phase: 7,
        };
        write(&mut near, &key, "count 3", &[1, 2, 3]).expect("written");
        drop(near);
        let frame = read(&mut far).expect("whole").expect("a frame");
        assert_eq!(
            (frame.key, frame.text.as_str(), frame.data),
            (key, "count 3", vec![1, 2, 3])
        );
        assert_eq!(read(&mut far).expect("an orderly end"), None);
    }

    #[test]
    fn garbage_is_refused() {
        let (mut near, mut far) = pair();
        near.write_all(&[7; HEAD]).expect("written");
        assert!(read(&mut far).is_err());
    }
}
