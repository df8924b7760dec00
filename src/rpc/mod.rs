//! Functions of one process that another process calls.
//!
//! | file | job |
//! |---|---|
//! | `front` | the front door: who calls, and may they; how to call |
//! | `claim` | taking a name as its server, finding the server of a name |

#![allow(dead_code, reason = "until the drivers use it")]

mod claim;
#[cfg(test)]
mod claim_tests;
mod front;
#[cfg(test)]
mod front_tests;
