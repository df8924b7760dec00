//! A directory tree as a service: other processes list it and read its files, many at a time.
//!
//! ```text
//! cargo run --release --example tree -- serve /files src
//! cargo run --release --example tree -- fetch /files copy
//! ```
//!
//! `examples/python/tree.py` is the same; either side may be either language. A file that was asked for
//! when the server was killed is asked for again: reading twice does no harm, so every
//! [`Delivered`](ringspan::rpc::Delivered) will do. The client finds the next server by itself.

use futures_util::{StreamExt, TryStreamExt, stream};
use ringspan::rpc::{Answer, CallError, Client, HandlerError, Service};
use serde_bytes::ByteBuf;
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

type Done<T> = Result<T, Box<dyn Error>>;

/// Files asked for at once.
const AT_ONCE: usize = 64;

/// Relative paths of all regular files, parts divided by `/`; without those named in `skip`.
fn walk(tree: &Path, skip: &[String]) -> Done<BTreeSet<String>> {
    let (mut files, mut folders) = (BTreeSet::new(), vec![tree.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let (entry, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
            let kind = fs::symlink_metadata(&entry)?.file_type();
            if skip.iter().any(|skipped| name == skipped.as_str()) {
                continue;
            }
            if kind.is_dir() {
                folders.push(entry);
            } else if kind.is_file() {
                let path = entry.strip_prefix(tree)?.to_str().ok_or("a path that is no text")?;
                files.insert(path.to_owned());
            }
        }
    }
    Ok(files)
}

async fn serve(name: &str, tree: PathBuf, skip: &[String]) -> Done<()> {
    let files = Arc::new(walk(&tree, skip)?);
    let listed = Arc::clone(&files);
    let server = Service::builder(name)
        .method_stream("list", move |(): ()| {
            stream::iter(Vec::from_iter(listed.iter().cloned())).map(Ok::<_, HandlerError>)
        })
        .method("read", move |(path,): (String,)| {
            let (known, path) = (files.contains(&path), tree.join(path));
            async move { if known { read(&path) } else { Err(not_found(&path)) } }
        })
        .serve()
        .await?;
    println!("serving pid={}", std::process::id());
    server.join().await;
    let stats = server.stats();
    println!("served calls={} errors={}", stats.calls, stats.errors);
    Ok(())
}

fn read(path: &Path) -> Answer<ByteBuf> {
    Ok(ByteBuf::from(fs::read(path)?))
}

/// What Python has for it.
fn not_found(path: &Path) -> HandlerError {
    HandlerError::new("FileNotFoundError", path.display())
}

/// A path that stays inside of the folder that it is joined to.
fn is_inside(path: &str) -> bool {
    !path.is_empty()
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

async fn fetch(name: &str, folder: &Path) -> Done<()> {
    let client = Client::connect(name).await?;
    let paths: Vec<String> = client.stream_method("list", &()).await?.try_collect().await?;
    let mut again = 0;
    let calls = stream::iter(paths.into_iter().map(|path| {
        let client = &client;
        async move {
            let mut broken = 0;
            loop {
                match client.call_method::<_, ByteBuf>("read", &(&path,)).await {
                    // The server died: at once while it was asked, or nobody serves it yet.
                    Err(CallError::Disconnected { .. } | CallError::Connect(_)) if broken < 500 => {
                        broken += 1;
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    answer => return answer.map(|bytes| (path, bytes, broken)),
                }
            }
        }
    }));
    let mut calls = calls.buffer_unordered(AT_ONCE);
    let (mut files, mut size) = (0, 0);
    while let Some((path, bytes, broken)) = calls.try_next().await? {
        if !is_inside(&path) {
            return Err(format!("{path:?} is not a path inside the tree").into());
        }
        let target = folder.join(path);
        fs::create_dir_all(target.parent().unwrap_or(folder))?;
        fs::write(target, &bytes)?;
        (files, size, again) = (files + 1, size + bytes.len(), again + usize::from(broken > 0));
    }
    println!("fetched files={files} bytes={size} again={again}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Done<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match &args[..] {
        [verb, name, tree, skip @ ..] if verb == "serve" => serve(name, tree.into(), skip).await,
        [verb, name, folder] if verb == "fetch" => fetch(name, Path::new(folder)).await,
        _ => Err("usage: tree serve NAME TREE [SKIP]... | fetch NAME FOLDER".into()),
    }
}
