//! Collectives as turns: all ranks swap bytes and compare what they call; reductions go in the order of ranks.
//!
//! Knows algorithms over byte strings; it must not know streams' queues, sockets or C pointers.

use super::kind::{Dtype, Reduction};
use super::link::Watch;
use super::result::Trouble;
use super::wire::{Key, Space};
use super::{Communicator, Direction};
use crate::stream::Stream;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

/// One collective of one rank.
pub(crate) struct Turn {
    communicator: Arc<Communicator>,
    space: Space,
    tag: u64,
    /// What this rank calls, with everything that must be equal on all ranks.
    call: String,
    watch: Watch,
}

impl Turn {
    pub fn new(
        communicator: &Arc<Communicator>,
        number: Option<u64>,
        call: &str,
        stream: Option<Weak<Stream>>,
    ) -> Turn {
        let (space, tag) = match number {
            Some(tag) => (Space::Collective, tag),
            None => (Space::ReplayedCollective, communicator.next_turn(true)),
        };
        let what = format!(
            "{call} (number {tag} of rank {} in communicator {})",
            communicator.rank, communicator.name
        );
        Turn {
            communicator: Arc::clone(communicator),
            space,
            tag,
            call: call.to_string(),
            watch: Watch::new(communicator.patience, stream, what),
        }
    }

    /// Sends bytes to every rank and gets bytes of every rank; the own ones come back as they are. In the first phase the
    /// ranks compare their calls.
    pub fn swap(&self, phase: u32, outgoing: &[&[u8]]) -> Result<Vec<Vec<u8>>, Trouble> {
        let communicator = &*self.communicator;
        let key = Key {
            group: communicator.group,
            space: self.space,
            tag: self.tag,
            phase,
        };
        if phase == 0 {
            communicator.link.check(communicator.group)?;
        }
        let call = if phase == 0 { self.call.as_str() } else { "" };
        for (rank, bytes) in outgoing.iter().enumerate() {
            if rank != communicator.rank {
                communicator
                    .link
                    .send(communicator.members[rank], &key, call, bytes)?;
            }
        }
        let mut incoming = Vec::with_capacity(outgoing.len());
        let mut calls = Vec::with_capacity(outgoing.len());
        for (rank, bytes) in outgoing.iter().enumerate() {
            if rank == communicator.rank {
                incoming.push(bytes.to_vec());
                calls.push(call.to_string());
                continue;
            }
            let frame = communicator
                .link
                .take(communicator.members[rank], key, &self.watch)?;
            incoming.push(frame.data);
            calls.push(frame.text);
        }
        compare(&calls, &self.watch.what)?;
        Ok(incoming)
    }

    /// Ends a turn that failed: no rank waits for the others any more.
    pub fn finish<T>(&self, outcome: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(trouble) = &outcome
            && trouble.result != 0
        {
            let communicator = &self.communicator;
            communicator
                .link
                .break_group(communicator.group, &communicator.members, trouble);
        }
        outcome
    }

    /// Nobody passes before everybody came.
    pub fn barrier(&self) -> Result<(), Trouble> {
        let nothing = vec![&[][..]; self.communicator.ranks()];
        self.swap(0, &nothing).map(drop)
    }

    /// Everybody gets the bytes of all, in the order of ranks.
    pub fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, Trouble> {
        self.swap(0, &vec![own; self.communicator.ranks()])
    }

    /// Rank `i` gets part `i` of the root; other ranks have no parts. Also what a broadcast is, with equal parts.
    pub fn scatter(&self, root: usize, parts: &[&[u8]]) -> Result<Vec<u8>, Trouble> {
        let nothing = vec![&[][..]; self.communicator.ranks()];
        let sends = root == self.communicator.rank;
        let mut incoming = self.swap(0, if sends { parts } else { &nothing })?;
        Ok(std::mem::take(&mut incoming[root]))
    }

    /// Rank `i` gets the reduction of all parts `i`.
    pub fn reduce_scatter(
        &self,
        parts: &[&[u8]],
        dtype: Dtype,
        reduction: Reduction,
    ) -> Result<Vec<u8>, Trouble> {
        let incoming = self.swap(0, parts)?;
        Ok(fold(incoming, dtype, reduction))
    }

    /// The root gets the reduction of all.
    pub fn reduce(
        &self,
        root: usize,
        own: &[u8],
        dtype: Dtype,
        reduction: Reduction,
    ) -> Result<Option<Vec<u8>>, Trouble> {
        let mut outgoing = vec![&[][..]; self.communicator.ranks()];
        outgoing[root] = own;
        let incoming = self.swap(0, &outgoing)?;
        Ok((root == self.communicator.rank).then(|| fold(incoming, dtype, reduction)))
    }

    /// Everybody gets the reduction of all: each rank reduces one part, then all gather the parts.
    pub fn all_reduce(
        &self,
        own: &[u8],
        dtype: Dtype,
        reduction: Reduction,
    ) -> Result<Vec<u8>, Trouble> {
        let ranks = self.communicator.ranks();
        let elements = own.len() / dtype.size();
        let edge = |rank: usize| elements * rank / ranks * dtype.size();
        let parts: Vec<&[u8]> = (0..ranks)
            .map(|rank| &own[edge(rank)..edge(rank + 1)])
            .collect();
        let reduced = fold(self.swap(0, &parts)?, dtype, reduction);
        Ok(self.swap(1, &vec![&reduced[..]; ranks])?.concat())
    }

    /// Rank `i` gets the parts `i` of all; `wanted` are their lengths.
    pub fn all_to_all(&self, parts: &[&[u8]], wanted: &[usize]) -> Result<Vec<Vec<u8>>, Trouble> {
        let incoming = self.swap(0, parts)?;
        for (rank, (bytes, &wanted)) in incoming.iter().zip(wanted).enumerate() {
            if bytes.len() != wanted {
                return Err(Trouble::mismatch(format!(
                    "{}: rank {rank} sends {} bytes to rank {}, which expects {wanted}",
                    self.watch.what,
                    bytes.len(),
                    self.communicator.rank
                )));
            }
        }
        Ok(incoming)
    }
}

/// Reduces in the order of ranks.
fn fold(incoming: Vec<Vec<u8>>, dtype: Dtype, reduction: Reduction) -> Vec<u8> {
    let mut all = incoming.into_iter();
    let mut sums = all.next().unwrap_or_default();
    for values in all {
        dtype.reduce(reduction, &mut sums, &values);
    }
    sums
}

/// Refuses calls that differ; names the ranks that are alone with theirs.
fn compare(calls: &[String], what: &str) -> Result<(), Trouble> {
    let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (rank, call) in calls.iter().enumerate() {
        groups.entry(call).or_default().push(rank);
    }
    if groups.len() < 2 {
        return Ok(());
    }
    let mut groups: Vec<(&str, Vec<usize>)> = groups.into_iter().collect();
    groups.sort_by_key(|(_, ranks)| (usize::MAX - ranks.len(), ranks[0]));
    let list: Vec<String> = groups
        .iter()
        .map(|(call, ranks)| format!("{} call {call}", name(ranks)))
        .collect();
    let majority = groups[0].1.len() > calls.len() / 2;
    let verdict = if majority {
        let alone: Vec<usize> = groups[1..]
            .iter()
            .flat_map(|(_, ranks)| ranks.clone())
            .collect();
        format!("; divergent: {}", name(&alone))
    } else {
        String::new()
    };
    Err(Trouble::mismatch(format!(
        "{what}: the ranks do not agree: {}{verdict}",
        list.join("; ")
    )))
}

/// "rank 1", "ranks 0, 2".
pub(crate) fn name(ranks: &[usize]) -> String {
    let list: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    let word = if ranks.len() == 1 { "rank" } else { "ranks" };
    format!("{word} {}", list.join(", "))
}

/// A message between two ranks, of one side.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub peer: usize,
    pub direction: Direction,
    /// Numbered when it was called; in a captured graph when it runs.
    pub number: Option<u64>,
    pub bytes: usize,
    /// Count and dtype.
    pub text: String,
}

/// Messages of one call: all go out before any is waited for, so that their order does not matter.
pub(crate) struct Post {
    communicator: Arc<Communicator>,
    messages: Vec<(Message, u64)>,
    replayed: bool,
    watch: Watch,
}

impl Post {
    pub fn new(
        communicator: &Arc<Communicator>,
        function: &str,
        messages: &[Message],
        stream: Option<Weak<Stream>>,
    ) -> Post {
        let number = |message: &Message| {
            message
                .number
                .unwrap_or_else(|| communicator.next_message(message.peer, message.direction, true))
        };
        let what = format!(
            "{function} (rank {} in communicator {})",
            communicator.rank, communicator.name
        );
        Post {
            communicator: Arc::clone(communicator),
            replayed: messages.iter().any(|message| message.number.is_none()),
            messages: messages
                .iter()
                .map(|message| (message.clone(), number(message)))
                .collect(),
            watch: Watch::new(communicator.patience, stream, what),
        }
    }

    fn key(&self, tag: u64, receipt: bool) -> Key {
        Key {
            group: self.communicator.group,
            space: match (receipt, self.replayed) {
                (false, false) => Space::Message,
                (false, true) => Space::ReplayedMessage,
                (true, false) => Space::Receipt,
                (true, true) => Space::ReplayedReceipt,
            },
            tag,
            phase: 0,
        }
    }

    /// Runs all messages: `outgoing` gives the bytes of message `i`, `incoming` takes them.
    pub fn run<'a>(
        &self,
        outgoing: impl Fn(usize) -> &'a [u8],
        mut incoming: impl FnMut(usize, &[u8]),
    ) -> Result<(), Trouble> {
        let link = &self.communicator.link;
        link.check(self.communicator.group)?;
        let place = |message: &Message| self.communicator.members[message.peer];
        for (index, (message, tag)) in self.messages.iter().enumerate() {
            if message.direction == Direction::Out {
                let key = self.key(*tag, false);
                link.send(place(message), &key, &message.text, outgoing(index))?;
            }
        }
        for (index, (message, tag)) in self.messages.iter().enumerate() {
            if message.direction == Direction::In {
                let frame = link.take(place(message), self.key(*tag, false), &self.watch)?;
                if frame.text != message.text || frame.data.len() != message.bytes {
                    return Err(Trouble::mismatch(format!(
                        "{}: rank {} sends {}, rank {} receives {}",
                        self.watch.what,
                        message.peer,
                        frame.text,
                        self.communicator.rank,
                        message.text
                    )));
                }
                incoming(index, &frame.data);
                link.send(place(message), &self.key(*tag, true), "", &[])?;
            }
        }
        for (message, tag) in &self.messages {
            if message.direction == Direction::Out {
                link.take(place(message), self.key(*tag, true), &self.watch)?;
            }
        }
        Ok(())
    }

    /// Ends messages that failed: no rank waits for this one any more.
    pub fn finish(&self, outcome: Result<(), Trouble>) -> Result<(), Trouble> {
        if let Err(trouble) = &outcome
            && trouble.result != 0
        {
            let communicator = &self.communicator;
            communicator
                .link
                .break_group(communicator.group, &communicator.members, trouble);
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_divergent_rank_is_named() {
        assert!(compare(&calls(&["a", "a", "a"]), "x").is_ok());
        let trouble = compare(&calls(&["a", "b", "a"]), "x").expect_err("they differ");
        assert!(
            trouble
                .text
                .contains("ranks 0, 2 call a; rank 1 call b; divergent: rank 1"),
            "{}",
            trouble.text
        );
        let trouble = compare(&calls(&["a", "b"]), "x").expect_err("they differ");
        assert!(
            trouble.text.ends_with("rank 0 call a; rank 1 call b"),
            "{}",
            trouble.text
        );
    }
}
