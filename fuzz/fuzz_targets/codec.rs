//! Anything in the place of arguments and results.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ringspan::rpc::fuzzing::values(bytes));
