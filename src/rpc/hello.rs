//! The first thing a server says over the socket, with the memory and both doorbells: how large the rings
//! are, what it grants, which methods there are. The client says nothing at all.

use crate::codec;
use crate::layout::PAIR_VERSION;
use crate::ring::{Geometry, PairGeometry};
use crate::rpc::limits::{Grant, MAX_MESSAGE};
use serde::{Deserialize, Serialize};

/// Bytes before the table of methods.
pub(crate) const HELLO_LEN: usize = 64;
/// The longest table.
pub(crate) const MAX_TABLE: usize = 64 << 10;
const MAGIC: u64 = u64::from_le_bytes(*b"RSRPCHI\0");

/// What a server answers a caller at its front door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Welcome {
    /// The connection is made.
    Come = 0,
    /// As many clients as it takes are connected.
    Full = 1,
    /// It is out of descriptors.
    TooManyFiles = 2,
    /// It is shutting down.
    Leaving = 3,
}

/// One method of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    #[serde(rename = "n")]
    pub(crate) name: String,
    /// It yields a stream.
    #[serde(rename = "s", default)]
    pub(crate) stream: bool,
    /// It takes and returns bytes as they are.
    #[serde(rename = "r", default)]
    pub(crate) raw: bool,
    /// Its handler reads the arguments in the ring, so how far the ring was read does not tell whether it ran.
    #[serde(rename = "p", default)]
    pub(crate) in_place: bool,
}

/// A hello, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) pid: u32,
    pub(crate) geometry: PairGeometry,
    pub(crate) grant: Grant,
    pub(crate) table: Vec<Entry>,
}

/// What came instead of a hello.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoHello {
    /// The server turned us away.
    Refused(Welcome),
    /// Another version of the protocol.
    Version(u32),
    /// Not a hello at all, or one that cannot be.
    Malformed(&'static str),
}

fn words(bytes: &[u8]) -> [u64; HELLO_LEN / 8] {
    let mut words = [0; HELLO_LEN / 8];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

fn head(welcome: Welcome, rest: [u64; 6]) -> Vec<u8> {
    let second = u64::from(PAIR_VERSION) | u64::from(welcome as u32) << 32;
    [MAGIC, second].into_iter().chain(rest).flat_map(u64::to_le_bytes).collect()
}

/// The hello of a caller that is turned away.
pub(crate) fn refusal(welcome: Welcome) -> Vec<u8> {
    head(welcome, [0; 6])
}

/// How long the table is that follows a head, if it is one.
pub(crate) fn table_len(bytes: &[u8]) -> Result<usize, NoHello> {
    if bytes.len() < HELLO_LEN {
        return Err(NoHello::Malformed("it is too short"));
    }
    let [magic, second, third, ..] = words(bytes);
    if magic != MAGIC {
        return Err(NoHello::Malformed("its first bytes are not ours"));
    }
    let (version, welcome) = (second as u32, (second >> 32) as u32);
    if version != PAIR_VERSION {
        return Err(NoHello::Version(version));
    }
    let all = [Welcome::Full, Welcome::TooManyFiles, Welcome::Leaving];
    if let Some(refused) = all.into_iter().find(|one| *one as u32 == welcome) {
        return Err(NoHello::Refused(refused));
    }
    let len = (third >> 32) as usize;
    if welcome != Welcome::Come as u32 || len > MAX_TABLE {
        return Err(NoHello::Malformed("its table is too long"));
    }
    Ok(len)
}

impl Hello {
    /// The bytes, with the table encoded before.
    pub(crate) fn to_bytes(&self, table: &[u8]) -> Vec<u8> {
        let third = u64::from(self.pid) | (table.len() as u64) << 32;
        let mut bytes = head(
            Welcome::Come,
            [
                third,
                self.geometry.requests.capacity(),
                self.geometry.responses.capacity(),
                u64::from(self.grant.max_pending),
                self.grant.max_inflight_bytes,
                self.grant.max_message,
            ],
        );
        bytes.extend_from_slice(table);
        bytes
    }

    /// Reads a whole hello.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Hello, NoHello> {
        let len = table_len(bytes)?;
        let table =
            bytes.get(HELLO_LEN..HELLO_LEN + len).filter(|_| bytes.len() == HELLO_LEN + len);
        let table = table.ok_or(NoHello::Malformed("it is cut short"))?;
        let table: Vec<Entry> = codec::from_slice(table)
            .map_err(|_| NoHello::Malformed("its table of methods cannot be read"))?;
        if table.len() > usize::from(u16::MAX) {
            return Err(NoHello::Malformed("its table is too long"));
        }
        let [_, _, third, requests, responses, pending, inflight, message] = words(bytes);
        if message == 0 || message > MAX_MESSAGE {
            return Err(NoHello::Malformed("a largest message of that size"));
        }
        let ring = |capacity| {
            Geometry::new(capacity, None).map_err(|_| NoHello::Malformed("a ring of that size"))
        };
        Ok(Hello {
            pid: third as u32,
            geometry: PairGeometry { requests: ring(requests)?, responses: ring(responses)? },
            grant: Grant {
                max_pending: u32::try_from(pending).unwrap_or(u32::MAX).max(1),
                max_inflight_bytes: inflight.max(message),
                max_message: message,
            },
            table,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::limits::Limits;
    use proptest::prelude::*;

    #[test]
    fn a_hello_survives_the_bytes_and_a_refusal_is_one() {
        let (limits, geometry) = Limits::default().checked("function /x").unwrap();
        let table = vec![Entry { name: "add".into(), stream: false, raw: false, in_place: false }];
        let hello = Hello { pid: 7, geometry, grant: Grant::from(&limits), table };
        let table = codec::to_vec(&hello.table).unwrap();
        let bytes = hello.to_bytes(&table);
        assert_eq!(Hello::from_bytes(&bytes), Ok(hello));
        assert!(Hello::from_bytes(&bytes[..bytes.len() - 1]).is_err());
        let refused = Hello::from_bytes(&refusal(Welcome::Full));
        assert_eq!(refused, Err(NoHello::Refused(Welcome::Full)));
    }

    proptest! {
        #[test]
        fn garbage_is_no_hello(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Hello::from_bytes(&bytes).is_err());
        }
    }
}
