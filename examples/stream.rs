//! Streams a directory tree through a ring, into another process that writes it elsewhere.
//!
//! ```text
//! cargo run --release --example stream -- recv /tree copy
//! cargo run --release --example stream -- send /tree src
//! ```
//!
//! `examples/python/stream.py` speaks the same, so either side may be Python. A message is one byte
//! that says what it is, and its content:
//!
//! ```text
//! T  bytes u64 | files u64   what is coming, little-endian
//! F  path                    a file begins; relative, parts divided by /
//! D  bytes                   the next piece of it
//! E  bytes u64               it is complete, and this long
//! ```
//!
//! A sender that was killed is told by an error; another one goes on behind the last complete file
//! with `--after PATH`. `--skip NAME` leaves out files and folders of that name.

use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Instant;

use ringspan::{Consumer, PopError, Producer, Ring};

type Done<T> = Result<T, Box<dyn Error>>;

const PIECE: usize = 64 << 10;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done<()> {
    let mut args = std::env::args().skip(1);
    let (Some(verb), Some(name), Some(path)) = (args.next(), args.next(), args.next()) else {
        return Err("usage: stream send|recv NAME PATH [--after PATH] [--skip NAME]...".into());
    };
    let (mut after, mut skip) = (None, Vec::new());
    while let (Some(option), Some(value)) = (args.next(), args.next()) {
        match option.as_str() {
            "--after" => after = Some(value),
            "--skip" => skip.push(value),
            other => return Err(format!("unknown option {other}").into()),
        }
    }
    let ring = Ring::options().capacity(1 << 20).ephemeral(true).open_or_create(&name)?;
    match verb.as_str() {
        "send" => send(ring.producer()?, Path::new(&path), after.as_deref(), &skip).await,
        "recv" => receive(ring.consumer()?, Path::new(&path)).await,
        other => Err(format!("{other} is neither send nor recv").into()),
    }
}

/// What one side did, as the line that it prints at its end.
struct Tally {
    started: Instant,
    files: u64,
    bytes: u64,
    messages: u64,
}

impl Tally {
    fn new() -> Self {
        Tally { started: Instant::now(), files: 0, bytes: 0, messages: 0 }
    }

    fn report(&self, verb: &str, sleeps: u64) {
        let seconds = self.started.elapsed().as_secs_f64();
        let Tally { files, bytes, messages, .. } = self;
        print!("{verb} files={files} bytes={bytes} messages={messages} ");
        println!("seconds={seconds:.4} sleeps={sleeps}");
    }
}

async fn send(mut tx: Producer, tree: &Path, after: Option<&str>, skip: &[String]) -> Done<()> {
    let mut files = Vec::new();
    list(tree, "", skip, &mut files)?;
    files.sort();
    files.retain(|(path, _)| after.is_none_or(|last| path.as_str() > last));
    let total: u64 = files.iter().map(|(_, size)| size).sum();
    let piece = PIECE.min(tx.max_message() as usize - 1);

    tx.attached().await?;
    let mut tally = Tally::new();
    push(&mut tx, b'T', &[total.to_le_bytes(), (files.len() as u64).to_le_bytes()].concat())
        .await?;
    for (path, _) in &files {
        push(&mut tx, b'F', path.as_bytes()).await?;
        let mut file = File::open(tree.join(path))?;
        let mut size = 0_u64;
        loop {
            // The file is read straight into the ring.
            let mut room = tx.reserve(1 + piece).await?;
            room[0] = b'D';
            let read = file.read(&mut room[1..])?;
            if read == 0 {
                break; // a grant that is dropped publishes nothing
            }
            room.commit(1 + read);
            size += read as u64;
            tally.messages += 1;
        }
        push(&mut tx, b'E', &size.to_le_bytes()).await?;
        tally.files += 1;
        tally.bytes += size;
        tally.messages += 2;
    }
    tally.messages += 1;
    tally.report("sent", tx.stat().parks);
    tx.close()?;
    Ok(())
}

async fn push(tx: &mut Producer, kind: u8, content: &[u8]) -> Done<()> {
    Ok(tx.push(&[&[kind], content].concat()).await?)
}

/// Collects (path, size) of every regular file below `tree/inner`.
fn list(tree: &Path, inner: &str, skip: &[String], files: &mut Vec<(String, u64)>) -> Done<()> {
    for entry in fs::read_dir(tree.join(inner))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| format!("{name:?} in {inner} is not UTF-8"))?;
        if skip.iter().any(|skipped| skipped == name) {
            continue;
        }
        let path = if inner.is_empty() { name.to_owned() } else { format!("{inner}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            list(tree, &path, skip, files)?;
        } else if kind.is_file() {
            files.push((path, entry.metadata()?.len()));
        }
    }
    Ok(())
}

async fn receive(mut rx: Consumer, folder: &Path) -> Done<()> {
    let mut tally = Tally::new();
    let mut open: Option<(String, File, u64)> = None;
    let mut last = String::new();
    loop {
        let message = match rx.pop().await {
            Ok(Some(message)) => message,
            Ok(None) => break,
            Err(PopError::PeerDied { fault, .. }) => {
                println!("died after={last}");
                eprintln!("{fault}; waiting for another sender");
                open = None;
                continue;
            }
            Err(other) => return Err(other.into()),
        };
        if tally.messages == 0 {
            tally = Tally::new();
        }
        tally.messages += 1;
        let (kind, content) = message.split_first().ok_or("an empty message")?;
        match (kind, &mut open) {
            (b'T', _) => {}
            (b'F', open) => {
                let path = std::str::from_utf8(content)?.to_owned();
                let target = folder.join(inside(&path)?);
                fs::create_dir_all(target.parent().unwrap_or(folder))?;
                *open = Some((path, File::create(target)?, 0));
            }
            (b'D', Some((_, file, size))) => {
                file.write_all(content)?;
                *size += content.len() as u64;
            }
            (b'E', open @ Some(_)) => {
                if let Some((path, _, size)) = open.take() {
                    if content != size.to_le_bytes() {
                        return Err(
                            format!("{path}: {size} bytes came, another number was sent").into()
                        );
                    }
                    tally.files += 1;
                    tally.bytes += size;
                    last = path;
                }
            }
            (other, _) => return Err(format!("unexpected message {:?}", *other as char).into()),
        }
    }
    tally.report("received", rx.stat().parks);
    Ok(())
}

/// Refuses a path that would leave the folder.
fn inside(path: &str) -> Done<PathBuf> {
    let parts = Path::new(path).components();
    if path.is_empty() || !parts.clone().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("{path:?} is not a path inside the tree").into());
    }
    Ok(parts.collect())
}
