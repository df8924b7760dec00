//! A server that sends anything, to the client's half of the protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringspan::rpc::fuzzing::wire_client(bytes));
