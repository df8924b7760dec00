//! What the targets in `fuzz/` may run; there is no such module in any other build.

use crate::codec;
use crate::rpc::core;
use crate::rpc::error::RemoteError;
use crate::rpc::hello::{Entry, Hello};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// A client that sends anything, and the server's half of the protocol.
pub fn wire_session(bytes: &[u8]) {
    core::fuzzing::session(bytes);
}

/// A server that sends anything, and the client's half of the protocol.
pub fn wire_client(bytes: &[u8]) {
    core::fuzzing::client(bytes);
}

/// What comes over the socket of a connection: a hello that is accepted says the same again.
pub fn hello(bytes: &[u8]) {
    if let Ok(hello) = Hello::from_bytes(bytes) {
        let table = codec::to_vec(&hello.table).expect("a table that was read");
        assert_eq!(Hello::from_bytes(&hello.to_bytes(&table)), Ok(hello));
    }
}

/// Arguments and results: what is accepted is a value, and stays the same.
pub fn values(bytes: &[u8]) {
    value::<(i64, Option<String>, f64)>(bytes);
    value::<BTreeMap<String, Vec<Option<u64>>>>(bytes);
    value::<Vec<Vec<Vec<bool>>>>(bytes);
    value::<serde_bytes::ByteBuf>(bytes);
    value::<RemoteError>(bytes);
    value::<Vec<Entry>>(bytes);
    value::<i128>(bytes);
}

fn value<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    // Compared as bytes: a float that is no number is not equal to itself.
    if let Ok(value) = codec::from_slice::<T>(bytes) {
        let once = codec::to_vec(&value).expect("a value that was read");
        let again: T = codec::from_slice(&once).expect("a value that was written");
        assert_eq!(codec::to_vec(&again).as_ref(), Ok(&once));
    }
}
