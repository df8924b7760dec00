//! Anything in the place of the first message of a connection.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringspan::rpc::fuzzing::hello(bytes));
